// SPDX-License-Identifier: Apache-2.0
// An HTTP/1.1 server for one single-threaded process: epoll, llhttp, keep-alive, pipelining, chunked bodies, Expect,
// limits and timeouts on every part, back-pressure, drain. The handler is called with a whole request and fills the
// response before it returns. No allocation on a request's path once the buffers have grown.
//
//   connection:  accept ─ [Waiting] ─first byte─ [Head] ─ [Body] ─ handler ─ response ─ [Waiting] …
//                any refusal, drain or idleness: response, half-close ─ [Lingering] until the peer closes, or 2 s
#pragma once
#include <llhttp.h>
#include <netinet/in.h>

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/page.h"
#include "sandbox/http_connection.h"
#include "sandbox/http_message.h"
#include "sandbox/http_output.h"

namespace skerry::sandbox {

class RequestHandler {
 public:
  // Fills the response; must not throw. `arena` lives until the next request.
  virtual void handle(Request&, Response&, Arena&) = 0;

 protected:
  ~RequestHandler() = default;
};

// What the process has to do besides HTTP.
class ServerEvents {
 public:
  virtual void control_readable() {}  // the control descriptor
  virtual bool asked_to_stop() { return false; }

 protected:
  ~ServerEvents() = default;
};

class HttpServer {
 public:
  struct Options : HttpMessageLimits {
    std::uint64_t response_bytes_max = 16u << 20;
    std::uint32_t connections_max = 4096;
    std::uint64_t header_timeout_ms = 10'000;
    std::uint64_t body_timeout_ms = 30'000;
    std::uint64_t keep_alive_timeout_ms = 60'000;
    std::uint64_t write_timeout_ms = 30'000;
    std::uint64_t linger_timeout_ms = 2'000;
    std::uint64_t idle_after_ms = 0;  // 0: never
  };
  HttpServer(const Options&, RequestHandler&, ServerEvents&, metrics::Block&);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Serves until idle for idle_after, or asked to stop and drained. Owns neither descriptor; control may be -1.
  void run(int listener, int control);

 private:
  friend struct StreamOf;
  HttpConnection& take_connection(int fd);
  void accept_some();
  void on_event(HttpConnection&, std::uint32_t events);
  void read_some(HttpConnection&, bool hung_up);
  // A connection's turn: however much its client pipelines, the others wait for no more than one turn of each.
  void begin_turn() { turn_end_ns_ = now_ns_ + kTurnNs; }
  bool turn_is_over() const { return now_ns_ >= turn_end_ns_; }
  void go_on_later(HttpConnection&);
  bool go_on(HttpConnection&);            // with what is unparsed; false: the connection is gone
  void take_cut_turns();
  void feed(HttpConnection&, const char* data, std::size_t size);
  void finish_request(HttpConnection&);
  void refuse(HttpConnection&, int status, std::string_view text);
  void refuse_after_output(HttpConnection&, int status, std::string_view text);
  void refuse_malformed(HttpConnection&, llhttp_errno);
  bool keep_head(HttpConnection&, std::size_t kept_before, std::size_t chunk_size);  // a head that goes on, or whose body does
  Framing framing_of(const HttpConnection&, bool head_only) const;
  void render(HttpConnection&, bool head_only, const Response&);
  bool flush_stream(HttpConnection&, Response&);
  bool send_output(HttpConnection&);      // what render() left in output_; false: the connection is gone
  bool send_pending(HttpConnection&);     // what an earlier send left over
  Sent push_pending(HttpConnection&);
  bool end_of_output(HttpConnection&);
  void half_close(HttpConnection&);
  void close_now(HttpConnection&);
  void set_timer(HttpConnection& c, HttpTimer timer) { timers_.set(c, timer, now_ms_); }
  void run_timers();
  void on_timer(HttpConnection&);
  int wait_time_ms() const;
  void start_drain();
  void poll_listener(bool on);
  void refresh_clock();

  static constexpr std::uint64_t kTurnNs = 2'000'000;
  const Options options_;
  RequestHandler& handler_;
  ServerEvents& events_;
  metrics::Block& metrics_;
  int epoll_ = -1, listener_ = -1;
  bool listener_polled_ = false, draining_ = false;
  std::uint64_t now_ns_ = 0, now_ms_ = 0, last_use_ms_ = 0;
  std::uint32_t open_ = 0;

  ConnectionTimers timers_;
  std::vector<std::unique_ptr<HttpConnection>> connections_;
  std::vector<HttpConnection*> free_, dying_, cut_, taken_;  // cut_: their turn was cut short
  std::uint64_t turn_end_ns_ = 0;

  llhttp_settings_t settings_;
  std::unique_ptr<char[]> read_buffer_;
  Buffer output_;
  ResponseWriter writer_{output_};
  Arena arena_;
  Request request_;
  Response response_;
};

}  // namespace skerry::sandbox
