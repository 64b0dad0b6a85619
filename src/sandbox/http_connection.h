// SPDX-License-Identifier: Apache-2.0
// One connection of HttpServer: the message being read, filled by llhttp's callbacks, and the output that waits. It decides
// what of a message is refused, and does no input or output.
//
// Heads are kept as offsets from head_base, because the bytes may move between two reads: a head that arrives whole stays in
// the read buffer; one that does not is kept in `in`. A body that lies whole in the read buffer is inline_body, else `body`.
#pragma once
#include <llhttp.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "sandbox/http_message.h"

namespace skerry::sandbox {

struct HttpMessageLimits {
  std::uint32_t header_bytes_max = 16u << 10;
  std::uint16_t header_count_max = 100;
  std::uint64_t body_bytes_max = 4u << 20;
};

enum class HttpTimer : std::uint8_t { Head, Body, KeepAlive, Write, Linger, None };

struct HttpConnection {
  enum Phase : std::uint8_t { Waiting, Head, Body, Lingering, Dead };
  struct HeadField {
    std::uint32_t name_at, name_size, value_at, value_size;
  };

  explicit HttpConnection(const HttpMessageLimits& message_limits) : limits(message_limits) {}
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  // A connection begins, in an object that may have served another.
  void begin(int descriptor, const llhttp_settings_t&);
  void begin_message();
  // The read buffer is about to be used again: what lies in it is kept.
  void spill_body();
  // The request that is whole now: views into head_base, body and trailers. Returns how many Host headers it has.
  int fill(Request&) const;
  // No Transfer-Encoding but a plain "chunked". For the parser's callbacks.
  bool only_chunked() const;
  // The value of the first header of this name in the kept head; empty if there is none.
  std::string_view kept_header(std::string_view name) const;
  // Large buffers are given back.
  void release_buffers();
  std::size_t pending_size() const { return pending.size() - pending_at; }
  int refuse(std::uint16_t status, const char* text) {
    refusal = status;
    refusal_text = text;
    return -1;
  }

  const HttpMessageLimits& limits;
  int fd = -1;
  Phase phase = Waiting;
  HttpTimer timer = HttpTimer::None;
  bool served_one = false;
  bool headers_done = false;   // of the message being read
  bool message_done = false;
  bool close_after = false;    // once the pending output is sent
  bool read_paused = false;    // output must leave first
  bool saw_end = false;        // the peer has closed its side
  bool again = false;          // its turn ended with work left
  bool last_was_value = true;  // of the header callbacks
  bool committed = false;      // a streamed response has begun
  bool chunked = false;
  std::uint16_t refusal = 0;   // status to refuse the message with; set by the callbacks
  const char* refusal_text = nullptr;
  const char* head_base = nullptr;
  std::uint32_t url_at = 0, url_size = 0, head_size = 0;
  std::uint64_t body_size = 0;
  std::uint64_t extension_size = 0;  // of its chunks, names and values
  std::size_t lingered = 0;
  std::vector<HeadField> fields;
  std::vector<HeadField> trailers;  // offsets into trailer_bytes
  Buffer in;                        // the head so far, if it did not arrive with the end of its message
  Buffer body;                      // likewise
  Buffer trailer_bytes;
  Buffer unparsed;                  // pipelined bytes that wait for the output to leave, or for the next turn
  Buffer pending;                   // output that the kernel did not take
  std::size_t pending_at = 0;
  std::string_view inline_body;     // a body that lies whole in the read buffer
  std::uint64_t deadline_ms = 0;         // of its timer
  HttpConnection* next = nullptr;        // in the timer's list
  HttpConnection* previous = nullptr;
  llhttp_t parser{};
  char address[64] = {};
  std::uint8_t address_size = 0;
};

// At most one timer for each connection, set and taken in constant time: all timers of one kind have one length, so the end
// of each kind's list is its latest deadline.
class ConnectionTimers {
 public:
  static constexpr std::size_t kKinds = static_cast<std::size_t>(HttpTimer::None);
  void set_length(HttpTimer timer, std::uint64_t ms) { lists_[index(timer)].length_ms = ms; }
  void set(HttpConnection&, HttpTimer, std::uint64_t now_ms);  // None takes it away
  HttpConnection* expired(std::uint64_t now_ms) const;         // stays the same until its timer is set anew
  std::uint64_t next_deadline_ms() const;                      // ~0: none

 private:
  struct List {
    HttpConnection* first = nullptr;
    HttpConnection* last = nullptr;
    std::uint64_t length_ms = 0;
  };
  static std::size_t index(HttpTimer timer) { return static_cast<std::size_t>(timer); }
  std::array<List, kKinds> lists_;
};

// The callbacks that fill a connection; a parser's `data` is its connection.
llhttp_settings_t connection_callbacks();

}  // namespace skerry::sandbox
