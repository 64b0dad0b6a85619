// SPDX-License-Identifier: Apache-2.0
#include "sandbox/http_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <span>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace skerry::sandbox {
namespace {

constexpr std::size_t kReadBytes = 16u << 10;
constexpr std::size_t kOutputBytes = 64u << 10;      // pipelined responses are sent at the latest when so much waits
constexpr std::size_t kLingerBytes = 1u << 20;
constexpr int kAcceptsPerEvent = 64;
constexpr int kEventsPerWait = 128;

// "1.2.3.4:5678" or "[::1]:5678". Returns its length.
int write_address(const sockaddr_storage& address, std::span<char> out) {
  char text[INET6_ADDRSTRLEN] = "";
  int length = 0;
  if (address.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    length = std::snprintf(out.data(), out.size(), "%s:%u", text, ntohs(in.sin_port));
  } else if (address.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
    length = std::snprintf(out.data(), out.size(), "[%s]:%u", text, ntohs(in.sin6_port));
  }
  return std::max(length, 0);
}

// Nothing that would end the authority of a URL, or stand before it.
bool is_host(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f && std::string_view("/?#@\\\"<>^`{|}").find(c) == std::string_view::npos; });
}

}  // namespace

struct StreamOf final : ResponseStream {
  HttpServer* server;
  HttpConnection* connection;
  StreamOf(HttpServer* s, HttpConnection* c) : server(s), connection(c) {}
  bool flush(Response& response) override { return server->flush_stream(*connection, response); }
};

HttpServer::HttpServer(const Options& options, RequestHandler& handler, ServerEvents& events, metrics::Block& block)
    : options_(options),
      handler_(handler),
      events_(events),
      metrics_(block),
      settings_(connection_callbacks()),
      read_buffer_(std::make_unique_for_overwrite<char[]>(kReadBytes)) {
  auto keep_alive = options_.keep_alive_timeout_ms;
  if (options_.idle_after_ms > 0) keep_alive = std::min(keep_alive, options_.idle_after_ms);
  timers_.set_length(HttpTimer::Head, options_.header_timeout_ms);
  timers_.set_length(HttpTimer::Body, options_.body_timeout_ms);
  timers_.set_length(HttpTimer::KeepAlive, keep_alive);
  timers_.set_length(HttpTimer::Write, options_.write_timeout_ms);
  timers_.set_length(HttpTimer::Linger, options_.linger_timeout_ms);
  response_.body_bytes_max = options_.response_bytes_max;
}
HttpServer::~HttpServer() {
  for (auto& c : connections_) {
    if (c->fd >= 0) close(c->fd);
  }
  if (epoll_ >= 0) close(epoll_);
}

void HttpServer::refresh_clock() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  now_ns_ = static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
  now_ms_ = now_ns_ / 1'000'000;
}

void HttpServer::poll_listener(bool on) {
  if (on == listener_polled_) return;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLEXCLUSIVE;
  event.data.u64 = 0;
  if (epoll_ctl(epoll_, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener_, &event) == 0) listener_polled_ = on;
}

void HttpServer::run(int listener, int control) {
  listener_ = listener;
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  CHECK(epoll_ >= 0);
  fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
  const int one = 1;
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);  // inherited by what is accepted
  poll_listener(true);
  if (control >= 0) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = 1;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, control, &event);
  }
  refresh_clock();
  last_use_ms_ = now_ms_;
  // SIGTERM is blocked but while waiting, so that no request is torn and none is missed.
  sigset_t working, waiting;
  sigprocmask(SIG_SETMASK, nullptr, &working);
  waiting = working;
  sigdelset(&waiting, SIGTERM);
  auto signals_seen_ms = now_ms_;
  accept_some();  // this process was started because a connection waits
  epoll_event events[kEventsPerWait];
  for (;;) {
    if (!draining_ && events_.asked_to_stop()) start_drain();
    if (open_ == 0) {
      if (draining_) return;
      if (options_.idle_after_ms > 0 && now_ms_ - last_use_ms_ >= options_.idle_after_ms) return;
    }
    const int n = epoll_pwait(epoll_, events, kEventsPerWait, cut_.empty() ? wait_time_ms() : 0, &waiting);
    refresh_clock();
    // A wait that does not sleep, because something is always ready, lets no signal through.
    if (n > 0 || !cut_.empty()) {
      constexpr std::uint64_t kLookForSignalsMs = 10;
      if (now_ms_ - signals_seen_ms >= kLookForSignalsMs) {
        signals_seen_ms = now_ms_;
        sigprocmask(SIG_SETMASK, &waiting, nullptr);
        sigprocmask(SIG_SETMASK, &working, nullptr);
      }
    }
    for (int i = 0; i < n; ++i) {
      switch (events[i].data.u64) {
        case 0: accept_some(); break;
        case 1:
          if ((events[i].events & EPOLLIN) != 0) events_.control_readable();
          if ((events[i].events & (EPOLLHUP | EPOLLERR)) != 0) epoll_ctl(epoll_, EPOLL_CTL_DEL, control, nullptr);
          break;
        default: {
          auto& c = *static_cast<HttpConnection*>(events[i].data.ptr);
          if (c.phase != HttpConnection::Dead) on_event(c, events[i].events);
        }
      }
    }
    take_cut_turns();
    run_timers();
    for (auto* c : dying_) free_.push_back(c);
    dying_.clear();
  }
}

int HttpServer::wait_time_ms() const {
  std::uint64_t until = timers_.next_deadline_ms();
  if (open_ == 0 && options_.idle_after_ms > 0) until = std::min(until, last_use_ms_ + options_.idle_after_ms);
  if (until == ~0ull) return -1;
  return until <= now_ms_ ? 0 : static_cast<int>(std::min<std::uint64_t>(until - now_ms_, 1u << 30));
}

void HttpServer::run_timers() {
  while (auto* expired = timers_.expired(now_ms_)) on_timer(*expired);
}

void HttpServer::on_timer(HttpConnection& c) {
  switch (c.timer) {
    case HttpTimer::KeepAlive: half_close(c); break;
    case HttpTimer::Head:
      if (c.phase == HttpConnection::Waiting) {
        half_close(c);  // it never said anything
        break;
      }
      metrics_.add(metrics::Counter::Timeouts);
      refuse(c, 408, "the request's head took too long\n");
      break;
    case HttpTimer::Body:
      metrics_.add(metrics::Counter::Timeouts);
      refuse(c, 408, "the request's body took too long\n");
      break;
    case HttpTimer::Write:
      metrics_.add(metrics::Counter::Timeouts);
      metrics_.add(metrics::Counter::ClientsGone);
      close_now(c);
      break;
    default: close_now(c); break;
  }
}

void HttpServer::start_drain() {
  draining_ = true;
  poll_listener(false);
  for (std::size_t i = 0; i < connections_.size(); ++i) {
    auto& c = *connections_[i];
    if (c.phase != HttpConnection::Waiting || c.pending_size() > 0) continue;
    // A request that already arrived is still served; as it is the last one of its connection, so is the turn.
    turn_end_ns_ = ~0ull;
    c.again = false;
    if (!go_on(c)) continue;
    if (c.phase == HttpConnection::Waiting && c.pending_size() == 0) read_some(c, false);
    if (c.phase == HttpConnection::Waiting && c.pending_size() == 0) half_close(c);
  }
}

HttpConnection& HttpServer::take_connection(int fd) {
  HttpConnection* c;
  if (free_.empty()) {
    connections_.push_back(std::make_unique<HttpConnection>(options_));
    c = connections_.back().get();
  } else {
    c = free_.back();
    free_.pop_back();
  }
  c->begin(fd, settings_);
  return *c;
}

void HttpServer::accept_some() {
  for (int i = 0; i < kAcceptsPerEvent; ++i) {
    if (draining_) return;
    if (open_ >= options_.connections_max) {
      poll_listener(false);
      return;
    }
    sockaddr_storage address;
    socklen_t size = sizeof address;
    const int fd = accept4(listener_, reinterpret_cast<sockaddr*>(&address), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      // EAGAIN: none left, or another worker has it. Without descriptors the backlog keeps them until a connection ends.
      if ((errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) && open_ > 0) poll_listener(false);
      return;
    }
    auto& c = take_connection(fd);
    c.address_size = static_cast<std::uint8_t>(write_address(address, c.address));
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = &c;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
      close(fd);
      c.fd = -1;
      c.phase = HttpConnection::Dead;
      free_.push_back(&c);
      return;
    }
    ++open_;
    metrics_.add(metrics::Counter::ConnectionsAccepted);
    metrics_.set(metrics::Counter::ConnectionsOpen, open_);
    set_timer(c, HttpTimer::Head);
    begin_turn();
    read_some(c, false);
  }
}

void HttpServer::on_event(HttpConnection& c, std::uint32_t events) {
  begin_turn();
  if (c.pending_size() > 0 && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
    if (!send_pending(c)) return;
    if (c.pending_size() == 0 && c.read_paused) {
      if (!go_on(c)) return;
      events |= EPOLLIN;  // the edge may have passed while reading was paused
    }
  }
  if (c.again) return;  // what is unparsed goes first
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) read_some(c, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
}

void HttpServer::go_on_later(HttpConnection& c) {
  if (std::exchange(c.again, true)) return;
  cut_.push_back(&c);
}

bool HttpServer::go_on(HttpConnection& c) {
  c.read_paused = false;
  if (c.unparsed.empty()) return true;
  Buffer rest = std::move(c.unparsed);
  c.unparsed = Buffer();
  if (c.phase != HttpConnection::Lingering) feed(c, rest.data(), rest.size());
  return c.phase != HttpConnection::Dead;
}

void HttpServer::take_cut_turns() {
  std::swap(cut_, taken_);
  for (auto* c : taken_) {
    if (!std::exchange(c->again, false)) continue;
    begin_turn();
    if (go_on(*c) && !c->again) read_some(*c, true);  // the edge that told of the peer's end may have passed
  }
  taken_.clear();
}

void HttpServer::read_some(HttpConnection& c, bool hung_up) {
  for (int reads = 0;; ++reads) {
    if (reads > 0 && turn_is_over() && c.phase != HttpConnection::Lingering) {
      go_on_later(c);
      return;
    }
    if (c.pending_size() > 0 && c.phase != HttpConnection::Lingering) {
      c.read_paused = true;
      return;
    }
    const ssize_t n = recv(c.fd, read_buffer_.get(), kReadBytes, 0);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      if (c.phase == HttpConnection::Head || c.phase == HttpConnection::Body) metrics_.add(metrics::Counter::ClientsGone);
      close_now(c);
      return;
    }
    if (n == 0) {
      if (c.pending_size() > 0) {  // it waits for its response with its side closed
        c.saw_end = c.close_after = true;
        return;
      }
      if (c.phase == HttpConnection::Head || c.phase == HttpConnection::Body) metrics_.add(metrics::Counter::ClientsGone);
      close_now(c);
      return;
    }
    metrics_.add(metrics::Counter::BytesReceived, static_cast<std::uint64_t>(n));
    if (c.phase == HttpConnection::Lingering || c.close_after) {
      c.lingered += static_cast<std::size_t>(n);
      if (c.lingered > kLingerBytes) {
        close_now(c);
        return;
      }
    } else {
      feed(c, read_buffer_.get(), static_cast<std::size_t>(n));
      if (c.phase == HttpConnection::Dead || c.again) return;
    }
    // A short read has emptied the socket; what comes later makes a new edge. The end of stream does not.
    if (static_cast<std::size_t>(n) < kReadBytes && !hung_up) return;
  }
}

void HttpServer::feed(HttpConnection& c, const char* data, std::size_t size) {
  std::size_t at = 0;
  while (at < size) {
    if (at > 0 && c.phase == HttpConnection::Waiting && turn_is_over()) {
      c.unparsed.append(data + at, size - at);
      if (!output_.empty() && !send_output(c)) return;
      set_timer(c, c.pending_size() > 0 ? HttpTimer::Write : HttpTimer::KeepAlive);
      if (c.pending_size() > 0) c.read_paused = true;
      else go_on_later(c);
      return;
    }
    if (c.pending_size() > 0) {
      c.unparsed.append(data + at, size - at);
      c.read_paused = true;
      return;
    }
    if (c.phase == HttpConnection::Waiting) {
      // Empty lines between messages are allowed (RFC 9112, 2.2) and are no beginning of a request.
      while (at < size && (data[at] == '\r' || data[at] == '\n')) ++at;
      if (at == size) break;
      c.begin_message();
      c.phase = HttpConnection::Head;
    }
    const char* chunk = data + at;
    const std::size_t chunk_size = size - at;
    const std::size_t kept_before = c.phase == HttpConnection::Head ? c.in.size() : 0;
    if (kept_before > 0) {
      // The head began in an earlier read: it goes on at the end of what was kept.
      c.in.append(chunk, chunk_size);
      c.head_base = c.in.data();
      chunk = c.in.data() + kept_before;
    } else if (c.phase == HttpConnection::Head) {
      c.head_base = chunk;
    }
    const auto error = llhttp_execute(&c.parser, chunk, chunk_size);
    if (error == HPE_PAUSED && c.message_done) {
      const auto used = static_cast<std::size_t>(llhttp_get_error_pos(&c.parser) - chunk);
      CHECK(used <= chunk_size);
      at += used;
      if (c.phase == HttpConnection::Body) c.head_base = c.in.data();
      llhttp_resume(&c.parser);
      finish_request(c);
      if (c.phase == HttpConnection::Dead) return;
      if (c.phase == HttpConnection::Lingering || c.close_after) break;
      c.phase = HttpConnection::Waiting;
      if (output_.size() >= kOutputBytes && !send_output(c)) return;
      continue;
    }
    if (error != HPE_OK) {
      refuse_malformed(c, static_cast<llhttp_errno>(error));
      return;
    }
    // The chunk is used up and the message goes on.
    at = size;
    if (c.phase == HttpConnection::Head && !keep_head(c, kept_before, chunk_size)) return;
    if (c.phase == HttpConnection::Body) c.spill_body();
  }
  if (!output_.empty() && !send_output(c)) return;
  if (c.pending_size() > 0) return;
  switch (c.phase) {
    case HttpConnection::Waiting: set_timer(c, HttpTimer::KeepAlive); break;
    case HttpConnection::Head:
      if (c.timer != HttpTimer::Head) set_timer(c, HttpTimer::Head);  // from the first byte on, not from the latest
      break;
    case HttpConnection::Body: set_timer(c, HttpTimer::Body); break;
    default: break;
  }
}

void HttpServer::refuse_malformed(HttpConnection& c, llhttp_errno code) {
  if (c.refusal == 0) {
    if (code == HPE_INVALID_METHOD) c.refuse(501, "the request's method is unknown\n");
    else if (code == HPE_INVALID_VERSION || code == HPE_PAUSED_H2_UPGRADE) c.refuse(505, "only HTTP/1.0 and HTTP/1.1 are served\n");
    else c.refuse(400, "the request is malformed\n");
  }
  refuse_after_output(c, c.refusal, c.refusal_text);
}

bool HttpServer::keep_head(HttpConnection& c, std::size_t kept_before, std::size_t chunk_size) {
  if (!c.headers_done) {
    if (kept_before == 0) c.in.append(c.head_base, chunk_size);
    if (kept_before + chunk_size <= options_.header_bytes_max + 4) return true;
    refuse_after_output(c, c.url_size > 0 && !c.fields.empty() ? 431 : 414, "the request's head is too large\n");
    return false;
  }
  if (kept_before == 0) c.in.append(c.head_base, c.head_size);
  c.phase = HttpConnection::Body;
  const auto expect = c.kept_header("expect");
  if (expect.empty() || c.parser.http_minor == 0) return true;
  if (!equal_ignoring_case(expect, "100-continue")) {
    refuse_after_output(c, 417, "only Expect: 100-continue is served\n");
    return false;
  }
  if (c.body_size == 0) output_.append("HTTP/1.1 100 Continue\r\n\r\n");
  return true;
}

void HttpServer::finish_request(HttpConnection& c) {
  auto& r = request_;
  const int hosts = c.fill(r);
  if (!llhttp_should_keep_alive(&c.parser) || draining_) c.close_after = true;
  if (hosts > 1 || (hosts == 0 && c.parser.http_minor > 0) || !is_host(r.host)) {
    refuse_after_output(c, 400, "an HTTP/1.1 request needs one Host header, with a name or an address\n");
    return;
  }
  arena_.reset();
  if (r.uri.starts_with('?')) r.uri = arena_.copy("/" + std::string(r.uri));  // of a URL without a path
  if (!r.uri.starts_with('/') && (r.uri != "*" || c.parser.method != HTTP_OPTIONS)) {
    refuse_after_output(c, 400, "the request's target is neither a path nor a URL\n");
    return;
  }
  response_.clear();
  StreamOf stream(this, &c);
  response_.stream = &stream;
  c.committed = c.chunked = false;
  metrics_.add(metrics::Counter::RequestsStarted);
  metrics_.add(metrics::Counter::RequestBytes, r.body.size());
  const auto started_ns = now_ns_;
  handler_.handle(r, response_, arena_);
  refresh_clock();
  last_use_ms_ = now_ms_;
  c.served_one = true;
  metrics_.observe_latency(now_ns_ - started_ns);
  metrics_.add(metrics::Counter::RequestsFinished);
  metrics_.add(metrics::Counter::ResponseBytes, response_.body_bytes);
  switch (response_.status / 100) {
    case 2: metrics_.add(metrics::Counter::Responses2xx); break;
    case 3: metrics_.add(metrics::Counter::Responses3xx); break;
    case 4: metrics_.add(metrics::Counter::Responses4xx); break;
    default: metrics_.add(metrics::Counter::Responses5xx); break;
  }
  response_.stream = nullptr;
  if (response_.abort) {
    close_now(c);
    return;
  }
  render(c, r.head_only, response_);
}

// Says that nothing more comes, and waits for the peer to say the same, so that no reset destroys what is on its way.
void HttpServer::half_close(HttpConnection& c) {
  if (c.pending_size() > 0) {
    c.close_after = true;
    return;
  }
  if (shutdown(c.fd, SHUT_WR) != 0) {
    close_now(c);
    return;
  }
  c.phase = HttpConnection::Lingering;
  set_timer(c, HttpTimer::Linger);
}

void HttpServer::close_now(HttpConnection& c) {
  set_timer(c, HttpTimer::None);
  close(c.fd);
  c.fd = -1;
  c.phase = HttpConnection::Dead;
  c.again = false;
  c.release_buffers();
  dying_.push_back(&c);
  --open_;
  metrics_.set(metrics::Counter::ConnectionsOpen, open_);
  last_use_ms_ = std::max(last_use_ms_, c.served_one ? last_use_ms_ : now_ms_);
  if (!draining_) poll_listener(true);
}

}  // namespace skerry::sandbox
