// SPDX-License-Identifier: Apache-2.0
// Responses as bytes: head, framing (Content-Length, or chunks with trailers), Date. Writes into a buffer; sends nothing.
#pragma once
#include <cstdint>
#include <ctime>

#include "sandbox/http_message.h"

namespace skerry::sandbox {

// How one response goes out; what it says of the connection is in its head.
struct Framing {
  bool head_only = false;     // the request was HEAD
  bool http_1_0 = false;      // the request's version: no chunks, keep-alive must be said
  bool close_after = false;   // the connection ends with this response
  bool chunked = false;
};

class ResponseWriter {
 public:
  explicit ResponseWriter(Buffer& out) : out_(out) {}
  // `second` is any clock's: the Date header is made anew when it changes. `with_length`: unless chunked.
  void head(const Response&, const Framing&, std::uint64_t second, bool with_length);
  // What of the body is in its buffer, as one chunk if chunked.
  void piece(const Response&, const Framing&);
  // The last chunk, and the trailers.
  void end_of_chunks(const Response&);

 private:
  void date(std::uint64_t second);
  void field(const Field&);
  void length(const Response&, bool head_only, std::string_view of_head_only);

  Buffer& out_;
  char date_[64] = {};
  std::size_t date_size_ = 0;
  std::uint64_t date_second_ = 0;
};

// Sends what of `bytes` the socket takes and counts it in `sent`.
enum class Sent : std::uint8_t { All, Blocked, Gone };
Sent send_bytes(int fd, std::string_view bytes, std::size_t& sent);

}  // namespace skerry::sandbox
