// SPDX-License-Identifier: Apache-2.0
#include "http/in_process.h"

#include <boost/system/system_error.hpp>
#include <exception>

#include "base/log.h"

namespace skerry::http {
namespace {

constexpr std::uint64_t kCollectedBytesMax = 256ULL * 1024 * 1024;

class OneChunk final : public Stream {
 public:
  explicit OneChunk(Chunk chunk) : chunk_(std::move(chunk)) {}
  rt::Task<std::optional<Chunk>> next() override {
    if (!chunk_ || chunk_->empty()) co_return std::nullopt;
    co_return std::exchange(chunk_, nullptr);
  }

 private:
  Chunk chunk_;
};

// A body and then a stream, as one stream.
class Joined final : public Stream {
 public:
  Joined(Chunk first, std::unique_ptr<Stream> rest) : first_(std::move(first)), rest_(std::move(rest)) {}
  rt::Task<std::optional<Chunk>> next() override {
    if (first_) co_return std::exchange(first_, nullptr);
    co_return co_await rest_->next();
  }

 private:
  Chunk first_;
  std::unique_ptr<Stream> rest_;
};

Response internal_error() {
  return make_response(500, "application/json",
                       R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"internal error; the )"
                       R"(server's log says more","reason":"InternalError","code":500})");
}

}  // namespace

rt::Task<Answer> answer(Handler& handler, Request request) {
  const std::string method = request.method;
  const std::string path = request.target.substr(0, request.target.find('?'));  // queries may hold what logs must not
  std::string failure;
  try {
    auto response = co_await handler.handle(std::move(request));
    if (response) co_return Answer{std::move(*response)};
    LOG_ERROR("request failed", {"method", method}, {"path", path}, {"error", response.error()});
    co_return Answer{internal_error(), true};
  } catch (const boost::system::system_error& e) {
    if (e.code() == boost::asio::error::operation_aborted) throw;  // cancellation
    failure = e.what();
  } catch (const std::exception& e) {
    failure = e.what();
  }
  LOG_ERROR("request threw", {"method", method}, {"path", path}, {"error", failure});
  co_return Answer{internal_error(), true};
}

rt::Task<std::optional<Chunk>> next_chunk(Stream& stream) {
  std::string failure;
  try {
    co_return co_await stream.next();
  } catch (const boost::system::system_error& e) {
    if (e.code() == boost::asio::error::operation_aborted) throw;  // cancellation
    failure = e.what();
  } catch (const std::exception& e) {
    failure = e.what();
  }
  LOG_ERROR("stream threw", {"error", failure});
  co_return Fail({Errc::Internal, "the stream failed: " + failure});
}

std::unique_ptr<Stream> stream_of(Chunk chunk) { return std::make_unique<OneChunk>(std::move(chunk)); }

rt::Task<std::string> collect(std::unique_ptr<Stream> stream, std::uint64_t bytes_max) {
  std::string out;
  for (;;) {
    CO_TRY(auto chunk, co_await stream->next());
    if (!chunk) co_return out;
    if (out.size() + (*chunk)->size() > bytes_max)
      co_return Fail({Errc::Exhausted, "the body is longer than " + std::to_string(bytes_max) + " bytes"});
    out += **chunk;
  }
}

rt::Task<Response> InProcessTransport::send(Request request, BodyMode mode, Duration) {
  request.peer = {.address = "in-process", .in_process = true};
  CO_TRY(auto answered, co_await answer(handler_, std::move(request)));
  Response response = std::move(answered.response);
  const bool streamed = mode == BodyMode::Streamed && response.status >= 200 && response.status < 300;
  if (streamed) {
    Chunk body = std::exchange(response.body, nullptr);
    if (!response.stream) response.stream = stream_of(std::move(body));
    else if (body && !body->empty()) response.stream = std::make_unique<Joined>(std::move(body), std::move(response.stream));
  } else if (response.stream) {
    CO_TRY(std::string rest, co_await collect(std::move(response.stream), kCollectedBytesMax));
    response.stream = nullptr;
    response.body = std::make_shared<const std::string>(std::string(response.text()) + rest);
  }
  co_return response;
}

}  // namespace skerry::http
