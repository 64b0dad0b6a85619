// SPDX-License-Identifier: Apache-2.0
// A Transport that calls a Handler of this process: the server's own controllers use the API this way. The request
// carries peer.in_process = true. No bytes are copied: bodies and stream chunks are the handler's own.
// The timeout is not applied: the handler lives on the same loop and has its own limits.
#pragma once
#include "http/message.h"

namespace skerry::http {

class InProcessTransport final : public Transport {
 public:
  explicit InProcessTransport(Handler& handler) : handler_(handler) {}  // must outlive this and its tasks
  rt::Task<Response> send(Request, BodyMode, Duration timeout) override;

 private:
  Handler& handler_;
};

// What every front does with a Handler: an Error or an exception (cancellation passes) becomes a 500 with a Status body
// and an error in the log; `failed` says so.
struct Answer {
  Response response;
  bool failed = false;
};
rt::Task<Answer> answer(Handler&, Request);
// The same for a stream's next chunk: an exception becomes an Error, and an error in the log.
rt::Task<std::optional<Chunk>> next_chunk(Stream&);

// A stream of one chunk, or of none.
std::unique_ptr<Stream> stream_of(Chunk);
// The rest of a stream as one string. Exhausted: longer than bytes_max.
rt::Task<std::string> collect(std::unique_ptr<Stream>, std::uint64_t bytes_max);

}  // namespace skerry::http
