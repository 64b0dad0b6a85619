// SPDX-License-Identifier: Apache-2.0
// It is over 800 lines, because reading, refusing and writing share one connection's buffers on the request path; parsing of heads is in
// http_message.cc.
#include "sandbox/http_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>

#include "base/check.h"

namespace skerry::sandbox {
namespace {

constexpr std::size_t kReadBytes = 16u << 10;
constexpr std::size_t kOutputBytes = 64u << 10;      // pipelined responses are sent at the latest when so much waits
constexpr std::size_t kBufferKeptBytes = 64u << 10;  // a larger buffer is given back after its request
constexpr std::size_t kStreamPendingBytes = 1u << 20;
constexpr std::size_t kLingerBytes = 1u << 20;
constexpr int kAcceptsPerEvent = 64;
constexpr int kEventsPerWait = 128;

std::string_view trim_right(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Headers that only the host may send: they frame the message.
bool is_framing_header(std::string_view name) {
  switch (name.size()) {
    case 7: return equal_ignoring_case(name, "upgrade") || equal_ignoring_case(name, "trailer");
    case 10: return equal_ignoring_case(name, "connection") || equal_ignoring_case(name, "keep-alive");
    case 14: return equal_ignoring_case(name, "content-length");
    case 17: return equal_ignoring_case(name, "transfer-encoding");
    default: return false;
  }
}

}  // namespace

struct HttpServer::Connection {
  enum Phase : std::uint8_t { Waiting, Head, Body, Lingering, Dead };
  struct HeadField {
    std::uint32_t name_at, name_size, value_at, value_size;
  };

  HttpServer* server = nullptr;
  int fd = -1;
  Phase phase = Waiting;
  TimerKind timer = kNoTimer;
  bool served_one = false;
  bool headers_done = false;   // of the message being read
  bool message_done = false;
  bool close_after = false;    // once the pending output is sent
  bool read_paused = false;    // output must leave first
  bool saw_end = false;        // the peer has closed its side
  bool last_was_value = true;  // of the header callbacks
  bool committed = false;      // a streamed response has begun
  bool chunked = false;
  std::uint16_t refusal = 0;   // status to refuse the message with; set by the callbacks
  const char* refusal_text = nullptr;
  std::uint32_t url_at = 0, url_size = 0, head_size = 0;
  std::uint64_t body_size = 0;
  std::size_t lingered = 0;
  std::vector<HeadField> fields;
  std::vector<HeadField> trailers;  // offsets into trailer_bytes
  Buffer in;                        // the head so far, if it did not arrive with the end of its message
  Buffer body;                      // likewise
  Buffer trailer_bytes;
  Buffer unparsed;                  // pipelined bytes that wait for the output to leave
  Buffer pending;                   // output that the kernel did not take
  std::size_t pending_at = 0;
  std::string_view inline_body;     // a body that lies whole in the read buffer
  std::uint64_t deadline_ms = 0;
  Connection* next = nullptr;
  Connection* previous = nullptr;
  llhttp_t parser;
  char address[64];
  std::uint8_t address_size = 0;

  void begin_message() {
    headers_done = message_done = committed = chunked = false;
    last_was_value = true;
    refusal = 0;
    url_at = url_size = head_size = 0;
    body_size = 0;
    fields.clear();
    trailers.clear();
    in.clear();
    body.clear();
    if (in.capacity() > kBufferKeptBytes) in.release();
    if (body.capacity() > kBufferKeptBytes) body.release();
    trailer_bytes.clear();
    inline_body = {};
  }
  int refuse(std::uint16_t status, const char* text) {
    refusal = status;
    refusal_text = text;
    return -1;
  }
  std::size_t pending_size() const { return pending.size() - pending_at; }
};

// What llhttp calls. Heads are kept as offsets from head_base_, because the bytes may move between two reads.
class HttpServer::Parsing {
 public:
  static Connection& of(llhttp_t* parser) { return *static_cast<Connection*>(parser->data); }

  static int on_url(llhttp_t* parser, const char* at, std::size_t size) {
    auto& c = of(parser);
    const auto begin = static_cast<std::size_t>(at - c.server->head_base_);
    if (begin + size > c.server->options_.header_bytes_max) return c.refuse(414, "the request's URI is too long\n");
    if (c.url_size == 0) c.url_at = static_cast<std::uint32_t>(begin);
    c.url_size += static_cast<std::uint32_t>(size);
    c.head_size = static_cast<std::uint32_t>(begin + size);
    return 0;
  }
  static int on_field(llhttp_t* parser, const char* at, std::size_t size) {
    auto& c = of(parser);
    if (c.headers_done) return trailer(c, at, size, false);
    const auto begin = static_cast<std::size_t>(at - c.server->head_base_);
    if (begin + size > c.server->options_.header_bytes_max) return c.refuse(431, "the request's headers are too large\n");
    if (c.last_was_value) {
      if (c.fields.size() >= c.server->options_.header_count_max) return c.refuse(431, "the request has too many headers\n");
      c.fields.push_back({static_cast<std::uint32_t>(begin), 0, 0, 0});
      c.last_was_value = false;
    }
    c.fields.back().name_size += static_cast<std::uint32_t>(size);
    c.head_size = static_cast<std::uint32_t>(begin + size);
    return 0;
  }
  static int on_value(llhttp_t* parser, const char* at, std::size_t size) {
    auto& c = of(parser);
    if (c.headers_done) return trailer(c, at, size, true);
    const auto begin = static_cast<std::size_t>(at - c.server->head_base_);
    if (begin + size > c.server->options_.header_bytes_max) return c.refuse(431, "the request's headers are too large\n");
    c.last_was_value = true;
    auto& field = c.fields.back();
    if (field.value_size == 0) {
      field.value_at = static_cast<std::uint32_t>(begin);
    } else if (field.value_at + field.value_size != begin) {
      return c.refuse(400, "a header is folded over several lines\n");
    }
    field.value_size += static_cast<std::uint32_t>(size);
    c.head_size = static_cast<std::uint32_t>(begin + size);
    return 0;
  }
  static int trailer(Connection& c, const char* at, std::size_t size, bool value) {
    if (c.trailer_bytes.size() + size > c.server->options_.header_bytes_max) return c.refuse(431, "the request's trailers are too large\n");
    if (!value && c.last_was_value) {
      if (c.trailers.size() >= c.server->options_.header_count_max) return c.refuse(431, "the request has too many trailers\n");
      c.trailers.push_back({static_cast<std::uint32_t>(c.trailer_bytes.size()), 0, 0, 0});
    }
    auto& field = c.trailers.back();
    if (value && field.value_size == 0) field.value_at = static_cast<std::uint32_t>(c.trailer_bytes.size());
    c.trailer_bytes.append(at, size);
    (value ? field.value_size : field.name_size) += static_cast<std::uint32_t>(size);
    c.last_was_value = value;
    return 0;
  }
  static int on_headers_complete(llhttp_t* parser) {
    auto& c = of(parser);
    c.headers_done = true;
    c.last_was_value = true;
    parser->upgrade = 0;  // answered as an ordinary request: no protocol is switched
    if (parser->http_major != 1) return c.refuse(505, "only HTTP/1.0 and HTTP/1.1 are served\n");
    if (parser->method == HTTP_CONNECT) return c.refuse(501, "CONNECT is not served\n");
    if ((parser->flags & F_CONTENT_LENGTH) != 0 && parser->content_length > c.server->options_.body_bytes_max) {
      return c.refuse(413, "the request's body is too large\n");
    }
    return 0;
  }
  static int on_body(llhttp_t* parser, const char* at, std::size_t size) {
    auto& c = of(parser);
    c.body_size += size;
    if (c.body_size > c.server->options_.body_bytes_max) return c.refuse(413, "the request's body is too large\n");
    if (c.body_size == size) {
      c.inline_body = {at, size};
      return 0;
    }
    spill(c);
    c.body.append(at, size);
    return 0;
  }
  // The read buffer is about to be used again.
  static void spill(Connection& c) {
    if (c.inline_body.empty()) return;
    if (c.body.empty() && c.parser.content_length <= c.server->options_.body_bytes_max) {
      c.body.reserve(c.inline_body.size() + c.parser.content_length);
    }
    c.body.append(c.inline_body);
    c.inline_body = {};
  }
  static int on_message_complete(llhttp_t* parser) {
    of(parser).message_done = true;
    return HPE_PAUSED;
  }
};

struct StreamOf final : ResponseStream {
  HttpServer* server;
  HttpServer::Connection* connection;
  StreamOf(HttpServer* s, HttpServer::Connection* c) : server(s), connection(c) {}
  bool flush(Response& response) override { return server->flush_stream(*connection, response); }
};

HttpServer::HttpServer(const Options& options, RequestHandler& handler, ServerEvents& events, metrics::Block& block)
    : options_(options), handler_(handler), events_(events), metrics_(block), read_buffer_(std::make_unique_for_overwrite<char[]>(kReadBytes)) {
  llhttp_settings_init(&settings_);
  settings_.on_url = Parsing::on_url;
  settings_.on_header_field = Parsing::on_field;
  settings_.on_header_value = Parsing::on_value;
  settings_.on_headers_complete = Parsing::on_headers_complete;
  settings_.on_body = Parsing::on_body;
  settings_.on_message_complete = Parsing::on_message_complete;
  auto keep_alive = options_.keep_alive_timeout_ms;
  if (options_.idle_after_ms > 0) keep_alive = std::min(keep_alive, options_.idle_after_ms);
  timer_length_ms_[kHeadTimer] = options_.header_timeout_ms;
  timer_length_ms_[kBodyTimer] = options_.body_timeout_ms;
  timer_length_ms_[kKeepAliveTimer] = keep_alive;
  timer_length_ms_[kWriteTimer] = options_.write_timeout_ms;
  timer_length_ms_[kLingerTimer] = options_.linger_timeout_ms;
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
  sigset_t waiting;
  sigprocmask(SIG_SETMASK, nullptr, &waiting);
  sigdelset(&waiting, SIGTERM);
  accept_some();  // this process was started because a connection waits
  epoll_event events[kEventsPerWait];
  for (;;) {
    if (!draining_ && events_.asked_to_stop()) start_drain();
    if (open_ == 0) {
      if (draining_) return;
      if (options_.idle_after_ms > 0 && now_ms_ - last_use_ms_ >= options_.idle_after_ms) return;
    }
    const int n = epoll_pwait(epoll_, events, kEventsPerWait, wait_time_ms(), &waiting);
    refresh_clock();
    for (int i = 0; i < n; ++i) {
      switch (events[i].data.u64) {
        case 0: accept_some(); break;
        case 1:
          if ((events[i].events & EPOLLIN) != 0) events_.control_readable();
          if ((events[i].events & (EPOLLHUP | EPOLLERR)) != 0) epoll_ctl(epoll_, EPOLL_CTL_DEL, control, nullptr);
          break;
        default: {
          auto& c = *static_cast<Connection*>(events[i].data.ptr);
          if (c.phase != Connection::Dead) on_event(c, events[i].events);
        }
      }
    }
    run_timers();
    for (auto* c : dying_) free_.push_back(c);
    dying_.clear();
  }
}

void HttpServer::warm_up() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  connections_.push_back(std::make_unique<Connection>());
  auto& c = *connections_.back();
  c.server = this;
  c.begin_message();
  llhttp_init(&c.parser, HTTP_REQUEST, &settings_);
  c.parser.data = &c;
  c.address_size = static_cast<std::uint8_t>(std::snprintf(c.address, sizeof c.address, "%s:%u", "127.0.0.1", 1u));
  ++open_;
  refresh_clock();
  static constexpr std::string_view kRequest =
      "POST /warm-up?x=1 HTTP/1.1\r\nHost: warm.up\r\nUser-Agent: none\r\nAccept: */*\r\nContent-Length: 4\r\n\r\nbody";
  std::memcpy(read_buffer_.get(), kRequest.data(), kRequest.size());
  feed(c, read_buffer_.get(), kRequest.size());  // sending fails, which closes the connection
  run_timers();
}

int HttpServer::wait_time_ms() const {
  std::uint64_t until = ~0ull;
  for (const auto& list : timers_) {
    if (list.first != nullptr) until = std::min(until, list.first->deadline_ms);
  }
  if (open_ == 0 && options_.idle_after_ms > 0) until = std::min(until, last_use_ms_ + options_.idle_after_ms);
  if (until == ~0ull) return -1;
  return until <= now_ms_ ? 0 : static_cast<int>(std::min<std::uint64_t>(until - now_ms_, 1u << 30));
}

void HttpServer::set_timer(Connection& c, TimerKind kind) {
  if (c.timer != kNoTimer) {
    auto& list = timers_[c.timer];
    (c.previous != nullptr ? c.previous->next : list.first) = c.next;
    (c.next != nullptr ? c.next->previous : list.last) = c.previous;
  }
  c.timer = kind;
  c.next = c.previous = nullptr;
  if (kind == kNoTimer) return;
  // Every list has one length, so the end of the list is the latest deadline.
  c.deadline_ms = now_ms_ + timer_length_ms_[kind];
  auto& list = timers_[kind];
  c.previous = list.last;
  (list.last != nullptr ? list.last->next : list.first) = &c;
  list.last = &c;
}

void HttpServer::run_timers() {
  for (std::uint8_t kind = 0; kind < kTimerCount; ++kind) {
    while (timers_[kind].first != nullptr && timers_[kind].first->deadline_ms <= now_ms_) {
      auto& c = *timers_[kind].first;
      switch (kind) {
        case kKeepAliveTimer: half_close(c); break;
        case kHeadTimer:
          if (c.phase == Connection::Waiting) {
            half_close(c);  // it never said anything
            break;
          }
          metrics_.add(metrics::Counter::Timeouts);
          refuse(c, 408, "the request's head took too long\n");
          break;
        case kBodyTimer:
          metrics_.add(metrics::Counter::Timeouts);
          refuse(c, 408, "the request's body took too long\n");
          break;
        case kWriteTimer:
          metrics_.add(metrics::Counter::Timeouts);
          metrics_.add(metrics::Counter::ClientsGone);
          close_now(c);
          break;
        default: close_now(c); break;
      }
    }
  }
}

void HttpServer::start_drain() {
  draining_ = true;
  poll_listener(false);
  for (std::size_t i = 0; i < connections_.size(); ++i) {
    auto& c = *connections_[i];
    if (c.phase != Connection::Waiting || c.pending_size() > 0) continue;
    read_some(c, false);  // a request that already arrived is still served
    if (c.phase == Connection::Waiting && c.pending_size() == 0) half_close(c);
  }
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
    Connection* c;
    if (free_.empty()) {
      connections_.push_back(std::make_unique<Connection>());
      c = connections_.back().get();
    } else {
      c = free_.back();
      free_.pop_back();
    }
    c->server = this;
    c->fd = fd;
    c->phase = Connection::Waiting;
    c->served_one = c->close_after = c->read_paused = c->saw_end = false;
    c->lingered = 0;
    c->pending.clear();
    c->pending_at = 0;
    c->unparsed.clear();
    c->begin_message();
    llhttp_init(&c->parser, HTTP_REQUEST, &settings_);
    c->parser.data = c;
    char text[INET6_ADDRSTRLEN] = "";
    int length = 0;
    if (address.ss_family == AF_INET) {
      const auto& in = reinterpret_cast<const sockaddr_in&>(address);
      inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
      length = std::snprintf(c->address, sizeof c->address, "%s:%u", text, ntohs(in.sin_port));
    } else if (address.ss_family == AF_INET6) {
      const auto& in = reinterpret_cast<const sockaddr_in6&>(address);
      inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
      length = std::snprintf(c->address, sizeof c->address, "[%s]:%u", text, ntohs(in.sin6_port));
    }
    c->address_size = static_cast<std::uint8_t>(std::max(length, 0));
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = c;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
      close(fd);
      c->fd = -1;
      c->phase = Connection::Dead;
      free_.push_back(c);
      return;
    }
    ++open_;
    metrics_.add(metrics::Counter::ConnectionsAccepted);
    metrics_.set(metrics::Counter::ConnectionsOpen, open_);
    set_timer(*c, kHeadTimer);
    read_some(*c, false);
  }
}

void HttpServer::on_event(Connection& c, std::uint32_t events) {
  if (c.pending_size() > 0 && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
    if (!send_pending(c)) return;
    if (c.pending_size() == 0 && c.read_paused) {
      c.read_paused = false;
      if (!c.unparsed.empty()) {
        Buffer rest = std::move(c.unparsed);
        c.unparsed = Buffer();
        feed(c, rest.data(), rest.size());
        if (c.phase == Connection::Dead) return;
      }
      events |= EPOLLIN;  // the edge may have passed while reading was paused
    }
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) read_some(c, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
}

void HttpServer::read_some(Connection& c, bool hung_up) {
  for (;;) {
    if (c.pending_size() > 0 && c.phase != Connection::Lingering) {
      c.read_paused = true;
      return;
    }
    const ssize_t n = recv(c.fd, read_buffer_.get(), kReadBytes, 0);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      if (c.phase == Connection::Head || c.phase == Connection::Body) metrics_.add(metrics::Counter::ClientsGone);
      close_now(c);
      return;
    }
    if (n == 0) {
      if (c.pending_size() > 0) {  // it waits for its response with its side closed
        c.saw_end = c.close_after = true;
        return;
      }
      if (c.phase == Connection::Head || c.phase == Connection::Body) metrics_.add(metrics::Counter::ClientsGone);
      close_now(c);
      return;
    }
    metrics_.add(metrics::Counter::BytesReceived, static_cast<std::uint64_t>(n));
    if (c.phase == Connection::Lingering || c.close_after) {
      c.lingered += static_cast<std::size_t>(n);
      if (c.lingered > kLingerBytes) {
        close_now(c);
        return;
      }
    } else {
      feed(c, read_buffer_.get(), static_cast<std::size_t>(n));
      if (c.phase == Connection::Dead) return;
    }
    // A short read has emptied the socket; what comes later makes a new edge. The end of stream does not.
    if (static_cast<std::size_t>(n) < kReadBytes && !hung_up) return;
  }
}

void HttpServer::feed(Connection& c, const char* data, std::size_t size) {
  std::size_t at = 0;
  while (at < size) {
    if (c.pending_size() > 0) {
      c.unparsed.append(data + at, size - at);
      c.read_paused = true;
      return;
    }
    if (c.phase == Connection::Waiting) {
      // Empty lines between messages are allowed (RFC 9112, 2.2) and are no beginning of a request.
      while (at < size && (data[at] == '\r' || data[at] == '\n')) ++at;
      if (at == size) break;
      c.begin_message();
      c.phase = Connection::Head;
    }
    const char* chunk = data + at;
    std::size_t chunk_size = size - at;
    std::size_t kept_before = 0;
    if (c.phase == Connection::Head) {
      if (!c.in.empty()) {
        // The head began in an earlier read: it goes on at the end of what was kept.
        kept_before = c.in.size();
        c.in.append(chunk, chunk_size);
        head_base_ = c.in.data();
        chunk = c.in.data() + kept_before;
      } else {
        head_base_ = chunk;
      }
    }
    const auto error = llhttp_execute(&c.parser, chunk, chunk_size);
    if (error == HPE_PAUSED && c.message_done) {
      const auto used = static_cast<std::size_t>(llhttp_get_error_pos(&c.parser) - chunk);
      CHECK(used <= chunk_size);
      at += used;
      if (c.phase == Connection::Body) head_base_ = c.in.data();
      llhttp_resume(&c.parser);
      finish_request(c);
      if (c.phase == Connection::Dead) return;
      if (c.phase == Connection::Lingering || c.close_after) break;
      c.phase = Connection::Waiting;
      if (output_.size() >= kOutputBytes && !send_output(c)) return;
      continue;
    }
    if (error != HPE_OK) {
      const auto code = static_cast<llhttp_errno>(error);
      if (c.refusal == 0) {
        if (code == HPE_INVALID_METHOD) c.refuse(501, "the request's method is unknown\n");
        else if (code == HPE_INVALID_VERSION || code == HPE_PAUSED_H2_UPGRADE) c.refuse(505, "only HTTP/1.0 and HTTP/1.1 are served\n");
        else c.refuse(400, "the request is malformed\n");
      }
      if (!output_.empty() && !send_output(c)) return;
      refuse(c, c.refusal, c.refusal_text);
      return;
    }
    // The chunk is used up and the message goes on.
    at = size;
    if (c.phase == Connection::Head) {
      if (c.headers_done) {
        if (kept_before == 0) c.in.append(head_base_, c.head_size);
        c.phase = Connection::Body;
        const auto find = [&](std::string_view name) -> std::string_view {
          for (const auto& field : c.fields) {
            if (equal_ignoring_case({c.in.data() + field.name_at, field.name_size}, name)) {
              return trim_right({c.in.data() + field.value_at, field.value_size});
            }
          }
          return {};
        };
        if (const auto expect = find("expect"); !expect.empty() && c.parser.http_minor > 0) {
          if (!equal_ignoring_case(expect, "100-continue")) {
            if (!output_.empty() && !send_output(c)) return;
            refuse(c, 417, "only Expect: 100-continue is served\n");
            return;
          }
          if (c.body_size == 0) output_.append("HTTP/1.1 100 Continue\r\n\r\n");
        }
      } else {
        const auto head_so_far = kept_before + chunk_size;
        if (kept_before == 0) c.in.append(head_base_, chunk_size);
        if (head_so_far > options_.header_bytes_max + 4) {
          if (!output_.empty() && !send_output(c)) return;
          refuse(c, c.url_size > 0 && !c.fields.empty() ? 431 : 414, "the request's head is too large\n");
          return;
        }
      }
    }
    if (c.phase == Connection::Body) Parsing::spill(c);
  }
  if (!output_.empty() && !send_output(c)) return;
  if (c.pending_size() > 0) return;
  switch (c.phase) {
    case Connection::Waiting: set_timer(c, kKeepAliveTimer); break;
    case Connection::Head:
      if (c.timer != kHeadTimer) set_timer(c, kHeadTimer);  // from the first byte on, not from the latest
      break;
    case Connection::Body: set_timer(c, kBodyTimer); break;
    default: break;
  }
}

void HttpServer::finish_request(Connection& c) {
  const char* base = head_base_;
  auto& r = request_;
  r.method = llhttp_method_name(static_cast<llhttp_method_t>(c.parser.method));
  r.head_only = c.parser.method == HTTP_HEAD;
  r.version = c.parser.http_minor == 0 ? "HTTP/1.0" : "HTTP/1.1";
  r.uri = {base + c.url_at, c.url_size};
  r.headers.clear();
  r.trailers.clear();
  r.host = {};
  int hosts = 0;
  for (const auto& field : c.fields) {
    const std::string_view name(base + field.name_at, field.name_size);
    const auto value = trim_right({base + field.value_at, field.value_size});
    if (name.size() == 4 && equal_ignoring_case(name, "host")) {
      ++hosts;
      r.host = value;
    }
    r.headers.append_view(name, value);
  }
  for (const auto& field : c.trailers) {
    r.trailers.append_view({c.trailer_bytes.data() + field.name_at, field.name_size},
                           trim_right({c.trailer_bytes.data() + field.value_at, field.value_size}));
  }
  r.body = c.inline_body.empty() ? c.body.view() : c.inline_body;
  r.source_address = {c.address, c.address_size};
  if (!llhttp_should_keep_alive(&c.parser) || draining_) c.close_after = true;
  if (hosts > 1 || (hosts == 0 && c.parser.http_minor > 0)) {
    if (!output_.empty() && !send_output(c)) return;
    refuse(c, 400, "an HTTP/1.1 request needs one Host header\n");
    return;
  }
  if (!r.uri.starts_with('/')) {  // absolute form (RFC 9112, 3.2.2): the authority goes, path and query stay
    if (const auto scheme = r.uri.find("://"); scheme != std::string_view::npos) {
      const auto path = r.uri.find_first_of("/?", scheme + 3);
      r.uri = path == std::string_view::npos ? std::string_view("/") : r.uri.substr(path);
    }
    if (r.uri.empty()) r.uri = "/";
  }

  arena_.reset();
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
  render(c, &r, response_);
}

void HttpServer::render_head(Connection& c, Response& response, bool head_only, bool chunked, bool with_length) {
  auto& out = output_;
  if (response.status == 200) {
    out.append("HTTP/1.1 200 OK\r\n");
  } else {
    out.append("HTTP/1.1 ");
    append_number(out, static_cast<std::uint64_t>(response.status));
    out.push(' ');
    out.append(reason_phrase(response.status));
    out.append("\r\n");
  }
  const auto second = now_ns_ / 1'000'000'000;
  if (date_size_ == 0 || second != date_second_) {
    date_second_ = second;
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    tm parts;
    gmtime_r(&t.tv_sec, &parts);
    date_size_ = std::strftime(date_, sizeof date_, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
  }
  bool has_date = false;
  std::string_view length_of_head_only;
  for (const auto& [name, value] : response.headers.fields()) {
    if (is_framing_header(name)) {
      if (head_only && name.size() == 14) length_of_head_only = value;
      continue;
    }
    if (name.size() == 4 && equal_ignoring_case(name, "date")) has_date = true;
    out.append(name);
    out.append(": ");
    out.append(value);
    out.append("\r\n");
  }
  if (!has_date) out.append(date_, date_size_);
  if (chunked) {
    out.append("Transfer-Encoding: chunked\r\n");
  } else if (with_length) {
    out.append("Content-Length: ");
    if (head_only && response.body_bytes == 0 && !length_of_head_only.empty() &&
        length_of_head_only.find_first_not_of("0123456789") == std::string_view::npos) {
      out.append(length_of_head_only);
    } else {
      append_number(out, response.body_bytes);
    }
    out.append("\r\n");
  }
  if (chunked && !response.trailers.empty()) {
    out.append("Trailer: ");
    bool first = true;
    for (const auto& field : response.trailers.fields()) {
      if (!first) out.append(", ");
      out.append(field.name);
      first = false;
    }
    out.append("\r\n");
  }
  if (c.close_after) out.append("Connection: close\r\n");
  else if (c.parser.http_minor == 0) out.append("Connection: keep-alive\r\n");
  out.append("\r\n");
}

void HttpServer::render(Connection& c, Request* request, Response& response) {
  const bool head_only = request != nullptr && request->head_only;
  const bool bodiless = is_bodiless(response.status);
  if (!c.committed) {
    c.chunked = !response.trailers.empty() && !head_only && !bodiless && c.parser.http_minor > 0;
    render_head(c, response, head_only, c.chunked, !bodiless);
  }
  if (!head_only && !bodiless) {
    if (c.chunked) {
      if (!response.body.empty()) {
        append_hex(output_, response.body.size());
        output_.append("\r\n");
        output_.append(response.body.view());
        output_.append("\r\n");
      }
      output_.append("0\r\n");
      for (const auto& [name, value] : response.trailers.fields()) {
        output_.append(name);
        output_.append(": ");
        output_.append(value);
        output_.append("\r\n");
      }
      output_.append("\r\n");
    } else {
      output_.append(response.body.view());
    }
  }
}

bool HttpServer::flush_stream(Connection& c, Response& response) {
  const bool bodiless = is_bodiless(response.status) || request_.head_only;
  if (!c.committed) {
    c.chunked = !bodiless && c.parser.http_minor > 0;
    if (!c.chunked && !bodiless) c.close_after = true;  // HTTP/1.0: the end of the connection is the end of the body
    if (request_.head_only) return response.body.clear(), true;
    render_head(c, response, false, c.chunked, false);
    c.committed = response.committed = true;
  }
  if (!bodiless && !response.body.empty()) {
    if (c.chunked) {
      append_hex(output_, response.body.size());
      output_.append("\r\n");
    }
    output_.append(response.body.view());
    if (c.chunked) output_.append("\r\n");
  }
  response.body.clear();
  // Directly, without the connection's own bookkeeping: the handler is in the middle of its work.
  c.pending.append(output_.view());
  output_.clear();
  for (;;) {
    while (c.pending_size() > 0) {
      const ssize_t n = send(c.fd, c.pending.data() + c.pending_at, c.pending_size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) break;
      if (n < 0) {
        metrics_.add(metrics::Counter::ClientsGone);
        response.abort = true;
        return false;
      }
      metrics_.add(metrics::Counter::BytesSent, static_cast<std::uint64_t>(n));
      c.pending_at += static_cast<std::size_t>(n);
    }
    if (c.pending_size() == 0) {
      c.pending.clear();
      c.pending_at = 0;
      return true;
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

bool HttpServer::send_output(Connection& c) {
  if (c.pending_size() > 0) {
    c.pending.append(output_.view());
    output_.clear();
    return send_pending(c);
  }
  std::size_t at = 0;
  while (at < output_.size()) {
    const ssize_t n = send(c.fd, output_.data() + at, output_.size() - at, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      c.pending.append(output_.data() + at, output_.size() - at);
      break;
    }
    if (n < 0) {
      metrics_.add(metrics::Counter::ClientsGone);
      output_.clear();
      close_now(c);
      return false;
    }
    metrics_.add(metrics::Counter::BytesSent, static_cast<std::uint64_t>(n));
    at += static_cast<std::size_t>(n);
  }
  output_.clear();
  if (output_.capacity() > 4 * kOutputBytes) output_.release();
  if (c.pending_size() > 0) {
    set_timer(c, kWriteTimer);
    return true;
  }
  if (c.close_after) {
    if (c.saw_end) close_now(c);
    else half_close(c);
    return c.phase != Connection::Dead;
  }
  return true;
}

bool HttpServer::send_pending(Connection& c) {
  bool progress = false;
  while (c.pending_size() > 0) {
    const ssize_t n = send(c.fd, c.pending.data() + c.pending_at, c.pending_size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      if (progress) set_timer(c, kWriteTimer);
      return true;
    }
    if (n < 0) {
      metrics_.add(metrics::Counter::ClientsGone);
      close_now(c);
      return false;
    }
    progress = true;
    metrics_.add(metrics::Counter::BytesSent, static_cast<std::uint64_t>(n));
    c.pending_at += static_cast<std::size_t>(n);
  }
  c.pending.clear();
  c.pending_at = 0;
  if (c.pending.capacity() > kBufferKeptBytes) c.pending.release();
  if (c.close_after) {
    if (c.saw_end) close_now(c);
    else half_close(c);
    return c.phase != Connection::Dead;
  }
  set_timer(c, c.phase == Connection::Waiting ? kKeepAliveTimer : c.phase == Connection::Head ? kHeadTimer : kBodyTimer);
  return true;
}

void HttpServer::refuse(Connection& c, int status, std::string_view text) {
  metrics_.add(metrics::Counter::RefusedRequests);
  metrics_.add(status < 500 ? metrics::Counter::Responses4xx : metrics::Counter::Responses5xx);
  last_use_ms_ = now_ms_;
  c.close_after = true;
  c.committed = c.chunked = false;
  Response answer;
  answer.plain(status, text);
  render(c, nullptr, answer);
  send_output(c);
}

// Says that nothing more comes, and waits for the peer to say the same, so that no reset destroys what is on its way.
void HttpServer::half_close(Connection& c) {
  if (c.pending_size() > 0) {
    c.close_after = true;
    return;
  }
  if (shutdown(c.fd, SHUT_WR) != 0) {
    close_now(c);
    return;
  }
  c.phase = Connection::Lingering;
  set_timer(c, kLingerTimer);
}

void HttpServer::close_now(Connection& c) {
  set_timer(c, kNoTimer);
  close(c.fd);
  c.fd = -1;
  c.phase = Connection::Dead;
  for (auto* buffer : {&c.in, &c.body, &c.pending, &c.unparsed}) {
    buffer->clear();
    if (buffer->capacity() > kReadBytes) buffer->release();
  }
  dying_.push_back(&c);
  --open_;
  metrics_.set(metrics::Counter::ConnectionsOpen, open_);
  last_use_ms_ = std::max(last_use_ms_, c.served_one ? last_use_ms_ : now_ms_);
  if (!draining_) poll_listener(true);
}

}  // namespace skerry::sandbox
