// SPDX-License-Identifier: Apache-2.0
// The part of HttpServer that answers: renders into output_, sends, and keeps what the socket does not take.
#include <poll.h>

#include <ctime>

#include "sandbox/http_server.h"

namespace skerry::sandbox {
namespace {

constexpr std::size_t kStreamPendingBytes = 1u << 20;
constexpr std::size_t kOutputKeptBytes = 256u << 10;  // larger buffers are given back once they are sent
constexpr std::size_t kPendingKeptBytes = 64u << 10;

}  // namespace

Framing HttpServer::framing_of(const HttpConnection& c, bool head_only) const {
  return {.head_only = head_only, .http_1_0 = c.parser.http_minor == 0, .close_after = c.close_after, .chunked = c.chunked};
}

void HttpServer::render(HttpConnection& c, bool head_only, const Response& response) {
  const bool has_body = !head_only && !is_bodiless(response.status);
  if (!c.committed) {
    c.chunked = !response.trailers.empty() && has_body && c.parser.http_minor > 0;
    writer_.head(response, framing_of(c, head_only), now_ns_ / 1'000'000'000, !is_bodiless(response.status));
  }
  if (!has_body) return;
  writer_.piece(response, framing_of(c, head_only));
  if (c.chunked) writer_.end_of_chunks(response);
}

bool HttpServer::flush_stream(HttpConnection& c, Response& response) {
  const bool bodiless = is_bodiless(response.status) || request_.head_only;
  if (!c.committed) {
    c.chunked = !bodiless && c.parser.http_minor > 0;
    if (!c.chunked && !bodiless) c.close_after = true;  // HTTP/1.0: the end of the connection is the end of the body
    if (request_.head_only) return response.body.clear(), true;
    writer_.head(response, framing_of(c, false), now_ns_ / 1'000'000'000, false);
    c.committed = response.committed = true;
  }
  if (!bodiless) writer_.piece(response, framing_of(c, false));
  response.body.clear();
  // Directly, without the connection's own bookkeeping: the handler is in the middle of its work.
  c.pending.append(output_.view());
  output_.clear();
  for (;;) {
    switch (push_pending(c)) {
      case Sent::Gone: response.abort = true; return false;
      case Sent::All: return true;
      case Sent::Blocked: break;
    }
    if (c.pending_size() < kStreamPendingBytes) return true;
    // A slow client holds up its guest, and with it this worker, for at most the write timeout (and the request's deadline,
    // whose signal interrupts the wait).
    pollfd waiting{c.fd, POLLOUT, 0};
    const timespec limit{static_cast<time_t>(options_.write_timeout_ms / 1000), static_cast<long>(options_.write_timeout_ms % 1000 * 1'000'000)};
    const int ready = ppoll(&waiting, 1, &limit, nullptr);
    if (ready <= 0) {
      metrics_.add(metrics::Counter::Timeouts);
      response.abort = true;
      return false;
    }
  }
}

// Sends what is pending; what was sent and whether the client is gone is counted.
Sent HttpServer::push_pending(HttpConnection& c) {
  const auto before = c.pending_at;
  const auto sent = send_bytes(c.fd, c.pending.view(), c.pending_at);
  metrics_.add(metrics::Counter::BytesSent, c.pending_at - before);
  if (sent == Sent::Gone) metrics_.add(metrics::Counter::ClientsGone);
  if (sent == Sent::All) {
    c.pending.clear();
    c.pending_at = 0;
  }
  return sent;
}

bool HttpServer::end_of_output(HttpConnection& c) {
  if (c.saw_end) close_now(c);
  else half_close(c);
  return c.phase != HttpConnection::Dead;
}

bool HttpServer::send_output(HttpConnection& c) {
  if (c.pending_size() > 0) {
    c.pending.append(output_.view());
    output_.clear();
    return send_pending(c);
  }
  std::size_t at = 0;
  const auto sent = send_bytes(c.fd, output_.view(), at);
  metrics_.add(metrics::Counter::BytesSent, at);
  if (sent == Sent::Blocked) c.pending.append(output_.view().substr(at));
  output_.clear();
  if (output_.capacity() > kOutputKeptBytes) output_.release();
  switch (sent) {
    case Sent::Gone:
      metrics_.add(metrics::Counter::ClientsGone);
      close_now(c);
      return false;
    case Sent::Blocked: set_timer(c, HttpTimer::Write); return true;
    case Sent::All: break;
  }
  return c.close_after ? end_of_output(c) : true;
}

bool HttpServer::send_pending(HttpConnection& c) {
  const auto before = c.pending_at;
  switch (push_pending(c)) {
    case Sent::Gone: close_now(c); return false;
    case Sent::Blocked:
      // Also when nothing was sent now, but before in the middle of a streamed response: whatever waits has this timer alone.
      if (c.pending_at != before || c.timer != HttpTimer::Write) set_timer(c, HttpTimer::Write);
      return true;
    case Sent::All: break;
  }
  if (c.pending.capacity() > kPendingKeptBytes) c.pending.release();
  if (c.close_after) return end_of_output(c);
  set_timer(c, c.phase == HttpConnection::Waiting ? HttpTimer::KeepAlive : c.phase == HttpConnection::Head ? HttpTimer::Head : HttpTimer::Body);
  return true;
}

// The answers to the requests before it go first.
void HttpServer::refuse_after_output(HttpConnection& c, int status, std::string_view text) {
  if (output_.empty() || send_output(c)) refuse(c, status, text);
}

void HttpServer::refuse(HttpConnection& c, int status, std::string_view text) {
  metrics_.add(metrics::Counter::RefusedRequests);
  metrics_.add(status < 500 ? metrics::Counter::Responses4xx : metrics::Counter::Responses5xx);
  last_use_ms_ = now_ms_;
  c.close_after = true;
  c.committed = c.chunked = false;
  Response answer;
  answer.plain(status, text);
  render(c, false, answer);
  send_output(c);
}

}  // namespace skerry::sandbox
