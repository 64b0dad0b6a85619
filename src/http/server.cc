// SPDX-License-Identifier: Apache-2.0
#include "http/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>
#include <format>
#include <list>

#include "base/check.h"
#include "base/log.h"
#include "http/in_process.h"
#include "http/tls.h"
#include "rt/task_group.h"

namespace skerry::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using Protocol = asio::generic::stream_protocol;  // TCP and Unix sockets by one template
using Plain = beast::basic_stream<Protocol, asio::io_context::executor_type>;
using Secure = asio::ssl::stream<Plain>;
using Socket = asio::basic_stream_socket<Protocol, asio::io_context::executor_type>;
using Acceptor = asio::basic_socket_acceptor<Protocol, asio::io_context::executor_type>;
using ErrorCode = boost::system::error_code;

// An operation's token: its error goes to `error` instead of being thrown.
auto into(ErrorCode& error) { return asio::redirect_error(asio::use_awaitable, error); }

constexpr std::size_t kReadBytes = 512;             // to begin with: an idle connection holds no more
constexpr std::size_t kPipelinedBytesMax = 16 * 1024;  // kept while a stream is under way
constexpr std::size_t kSliceBytes = 256 * 1024;    // what write_timeout is for: a slow line that moves is not cut off
constexpr std::size_t kLingerBytesMax = 1024 * 1024;

std::string to_text(const Protocol::endpoint& endpoint) {
  char text[INET6_ADDRSTRLEN] = "";
  const auto* address = reinterpret_cast<const sockaddr*>(endpoint.data());
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    return std::format("{}:{}", text, ntohs(v4->sin_port));
  }
  if (address->sa_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
    inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    return std::format("[{}]:{}", text, ntohs(v6->sin6_port));
  }
  return "unix";
}

bool has_line_break(std::string_view text) { return text.find_first_of(std::string_view("\r\n\0", 3)) != text.npos; }

enum class Framing : std::uint8_t { Length, Chunked, UntilClose };

// The status line and headers. Internal: a header of the handler's would break the framing.
Result<std::string> head_of(const Response& response, Framing framing, bool keep_alive) {
  std::string out = std::format("HTTP/1.1 {} {}\r\n", response.status,
                                std::string_view(bhttp::obsolete_reason(bhttp::int_to_status(static_cast<unsigned>(response.status)))));
  for (const auto& [name, value] : response.headers.all()) {
    if (name.empty() || has_line_break(name) || has_line_break(value) || name.find(':') != name.npos)
      return Fail({Errc::Internal, "a response header has a line break or a bad name"});
    if (beast::iequals(name, "content-length") || beast::iequals(name, "transfer-encoding") || beast::iequals(name, "connection")) continue;
    out.append(name).append(": ").append(value).append("\r\n");
  }
  const bool bodiless = response.status == 204 || response.status == 304 || response.status < 200;
  if (framing == Framing::Chunked) out += "Transfer-Encoding: chunked\r\n";
  if (framing == Framing::Length && !bodiless) out += std::format("Content-Length: {}\r\n", response.text().size());
  if (!keep_alive) out += "Connection: close\r\n";
  out += "\r\n";
  return out;
}

Response plain(int status, std::string text) { return make_response(status, "text/plain", std::move(text) + "\n"); }

// Shared with the read that waits for a disconnect: a TLS operation must not outlive its stream.
template <class S>
struct Connection {
  template <class... Args>
  explicit Connection(std::size_t buffer_max, Args&&... args) : stream(std::forward<Args>(args)...), buffer(buffer_max) {}
  Plain& lowest() { return beast::get_lowest_layer(stream); }
  S stream;
  beast::flat_buffer buffer;
};

enum class Phase : std::uint8_t { Idle, Busy, Streaming };
struct Session {
  Phase phase = Phase::Idle;
  std::function<void()> cancel{};
};

// A live count that goes down however the scope is left.
class Counted {
 public:
  explicit Counted(std::uint64_t& n) : n_(n) { ++n_; }
  ~Counted() { --n_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  std::uint64_t& n_;
};

}  // namespace

struct Server::State {
  State(rt::Loop& l, Handler& h, Options o)
      : loop(l), handler(h), options(std::move(o)), tasks(l), drained(l), acceptor(l.context().get_executor()) {}

  Result<> listen();
  rt::Task<> accept();
  rt::Task<> serve_plain(std::shared_ptr<Session> session, std::shared_ptr<Connection<Plain>> c, Peer peer);
  rt::Task<> serve_secure(std::shared_ptr<Session> session, std::shared_ptr<Connection<Secure>> c, Peer peer, TlsContext tls);
  template <class S>
  rt::Task<> serve(std::shared_ptr<Session> session, std::shared_ptr<Connection<S>> c, Peer peer);
  template <class S>
  rt::Task<bool> read_request(Connection<S>& c, Request& request, bool& keep_alive, bool& http10);
  template <class S>
  rt::Task<bool> write_response(std::shared_ptr<Session> session, std::shared_ptr<Connection<S>> c, Response response,
                                bool keep_alive, bool http10, bool head_only);
  template <class S>
  rt::Task<bool> write_stream(std::shared_ptr<Session> session, std::shared_ptr<Connection<S>> c, Response response, Framing framing);
  template <class S>
  rt::Task<> write(Connection<S>& c, std::string_view head, std::string_view body, std::string_view tail, ErrorCode& error);
  template <class S>
  rt::Task<> refuse(Connection<S>& c, Response response);
  void note(const ErrorCode& error) {
    if (error == beast::error::timeout) ++stats.timeouts;
  }
  void finished(const std::shared_ptr<Session>& session) {
    sessions.remove(session);
    --stats.connections_open;
    if (sessions.empty()) drained.set();
  }

  rt::Loop& loop;
  Handler& handler;
  Options options;
  Stats stats;
  rt::TaskGroup tasks;
  rt::Event drained;
  Acceptor acceptor;
  std::uint16_t port = 0;
  TlsContext tls;
  std::list<std::shared_ptr<Session>> sessions;
  bool started = false, stopping = false, stopped = false, full = false;
};

namespace {
// Takes the session off the list however its coroutine ends, and closes the socket, so that a read in flight ends too.
template <class State, class S>
struct SessionGuard {
  State& state;
  const std::shared_ptr<Session>& session;
  Connection<S>& connection;
  ~SessionGuard() {
    connection.lowest().close();
    state.finished(session);
  }
};
}  // namespace

Result<> Server::State::listen() {
  ErrorCode error;
  Protocol::endpoint endpoint;
  std::string shown;
  if (!options.unix_path.empty()) {
    if (options.unix_path.size() >= 108)
      return Fail({Errc::Invalid, std::format("{}: the socket's path is longer than 107 bytes", options.unix_path)});
    struct stat found{};
    if (::lstat(options.unix_path.c_str(), &found) == 0 && S_ISSOCK(found.st_mode)) ::unlink(options.unix_path.c_str());
    endpoint = asio::local::stream_protocol::endpoint(options.unix_path);
    shown = options.unix_path;
  } else {
    const auto address = asio::ip::make_address(options.address, error);
    if (error) return Fail({Errc::Invalid, std::format("{} is not an IP address to listen on", options.address)});
    endpoint = asio::ip::tcp::endpoint(address, options.port);
    shown = to_text(endpoint);
  }
  const auto failed = [&](std::string_view step) {
    ErrorCode ignored;
    acceptor.close(ignored);
    const auto code = error == asio::error::address_in_use ? Errc::Unavailable : error == asio::error::access_denied ? Errc::Denied : Errc::Unavailable;
    return Fail({code, std::format("cannot {} {}: {}{}", step, shown, error.message(),
                                   error == asio::error::address_in_use ? "; choose another port, or stop what listens there" : "")});
  };
  acceptor.open(endpoint.protocol(), error);
  if (error) return failed("open a socket for");
  if (options.unix_path.empty()) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  const auto mask = options.unix_path.empty() ? mode_t{} : ::umask(0177);
  acceptor.bind(endpoint, error);
  if (!options.unix_path.empty()) ::umask(mask);
  if (error) return failed("bind");
  acceptor.listen(1024, error);
  if (error) return failed("listen on");
  const auto local = acceptor.local_endpoint(error);
  const auto* bound = reinterpret_cast<const sockaddr*>(local.data());
  if (bound->sa_family == AF_INET) port = ntohs(reinterpret_cast<const sockaddr_in*>(bound)->sin_port);
  if (bound->sa_family == AF_INET6) port = ntohs(reinterpret_cast<const sockaddr_in6*>(bound)->sin6_port);
  LOG_INFO("listening", {"server", options.name}, {"address", options.unix_path.empty() ? to_text(local) : options.unix_path},
           {"tls", options.tls.has_value()});
  return {};
}

rt::Task<> Server::State::accept() {
  for (;;) {
    ErrorCode error;
    Protocol::endpoint from;
    Socket socket(loop.context().get_executor());
    co_await acceptor.async_accept(socket, from, into(error));
    if (stopping) co_return Result<>{};
    if (error == asio::error::connection_aborted) continue;
    if (error) {
      LOG_WARN("accept failed", {"server", options.name}, {"error", error.message()});
      CO_TRY_OK(co_await rt::sleep_for(100ms));  // out of descriptors: let some close
      continue;
    }
    if (sessions.size() >= options.connections_max) {
      ++stats.connections_refused;
      if (!std::exchange(full, true)) LOG_WARN("too many connections", {"server", options.name}, {"max", options.connections_max});
      continue;
    }
    full = false;
    ErrorCode ignored;
    if (options.unix_path.empty()) {
      using Boolean = asio::detail::socket_option::boolean<IPPROTO_TCP, TCP_NODELAY>;
      socket.set_option(Boolean(true), ignored);
      // Finds watchers that vanished: by what is written to them, or by the kernel's own rare probes.
      socket.set_option(asio::socket_base::keep_alive(true), ignored);
      constexpr int kUnacknowledgedMillisMax = 120'000;
      ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnacknowledgedMillisMax, sizeof kUnacknowledgedMillisMax);
    }
    ++stats.connections_total;
    ++stats.connections_open;
    drained.reset();
    auto session = std::make_shared<Session>();
    sessions.push_back(session);
    Peer peer{.address = to_text(from)};
    const std::size_t buffer_max = std::max<std::size_t>(options.header_bytes_max + 4096, kPipelinedBytesMax + kReadBytes);
    if (tls.context) {
      SSL_CTX_up_ref(tls.context.get());
      asio::ssl::context context(tls.context.get());  // takes that reference
      auto c = std::make_shared<Connection<Secure>>(buffer_max, std::move(socket), context);
      session->cancel = tasks.spawn_cancellable("https connection", serve_secure(session, std::move(c), std::move(peer), tls));
    } else {
      auto c = std::make_shared<Connection<Plain>>(buffer_max, std::move(socket));
      session->cancel = tasks.spawn_cancellable("http connection", serve_plain(session, std::move(c), std::move(peer)));
    }
  }
}

rt::Task<> Server::State::serve_plain(std::shared_ptr<Session> session, std::shared_ptr<Connection<Plain>> c, Peer peer) {
  const SessionGuard<State, Plain> guard{*this, session, *c};
  co_return co_await serve(session, c, std::move(peer));
}

rt::Task<> Server::State::serve_secure(std::shared_ptr<Session> session, std::shared_ptr<Connection<Secure>> c, Peer peer,
                                       TlsContext context) {
  const SessionGuard<State, Secure> guard{*this, session, *c};
  ErrorCode error;
  c->lowest().expires_after(options.handshake_timeout);
  co_await c->stream.async_handshake(asio::ssl::stream_base::server, into(error));
  if (error) {
    note(error);
    ++stats.handshakes_failed;
    LOG_DEBUG("handshake failed", {"server", options.name}, {"peer", peer.address}, {"error", error.message()});
    co_return Result<>{};
  }
  stats.handshakes_resumed += static_cast<std::uint64_t>(SSL_session_reused(c->stream.native_handle()));
  if (auto identity = verified_client(c->stream.native_handle(), context.client_ca.get())) {
    ClientCertificate& certificate = identity->certificate;
    if (identity->expired) {
      peer.expired_certificate = std::make_shared<const ClientCertificate>(std::move(certificate));
    } else {
      peer.certificate_common_name = std::move(certificate.common_name);
      peer.certificate_organizations = std::move(certificate.organizations);
      peer.certificate_serial = std::move(certificate.serial);
      peer.certificate_key = std::move(certificate.key);
      peer.certificate_not_before = certificate.not_before;
      peer.certificate_not_after = certificate.not_after;
    }
  }
  CO_TRY_OK(co_await serve(session, c, std::move(peer)));
  if (!stopping) {  // a polite close, which does not wait long for the peer's
    c->lowest().expires_after(1s);
    co_await c->stream.async_shutdown(into(error));
  }
  co_return Result<>{};
}

template <class S>
rt::Task<> Server::State::serve(std::shared_ptr<Session> session, std::shared_ptr<Connection<S>> c, Peer peer) {
  for (;;) {
    session->phase = Phase::Idle;
    if (stopping) co_return Result<>{};
    Request request{.peer = peer};
    bool keep_alive = false, http10 = false;
    if (c->buffer.size() == 0) {
      c->buffer.clear();
      c->buffer.shrink_to_fit();
      c->lowest().expires_after(options.idle_timeout);
      ErrorCode error;
      const std::size_t n = co_await c->stream.async_read_some(c->buffer.prepare(kReadBytes), into(error));
      if (error) co_return Result<>{};  // closed, or idle for too long
      c->buffer.commit(n);
    }
    session->phase = Phase::Busy;
    CO_TRY(const bool read, co_await read_request(*c, request, keep_alive, http10));
    if (!read) co_return Result<>{};
    ++stats.requests_total;
    const bool head_only = request.method == "HEAD";
    CO_TRY(auto answered, co_await answer(handler, std::move(request)));
    if (answered.failed) ++stats.handler_failures;
    CO_TRY(const bool reusable, co_await write_response(session, c, std::move(answered.response), keep_alive, http10, head_only));
    if (!reusable) co_return Result<>{};
  }
}

// False: the connection is done (an answer was given where one was due).
template <class S>
rt::Task<bool> Server::State::read_request(Connection<S>& c, Request& request, bool& keep_alive, bool& http10) {
  ErrorCode error;
  bhttp::request_parser<bhttp::string_body> parser;
  parser.header_limit(options.header_bytes_max);
  parser.body_limit(options.body_bytes_max);
  c.lowest().expires_after(options.header_timeout);
  co_await bhttp::async_read_header(c.stream, c.buffer, parser, into(error));
  const auto take_head = [&](const auto& head) {
    request.method = std::string_view(head.method_string());
    request.target = std::string_view(head.target());
    for (const auto& field : head) request.headers.add(std::string_view(field.name_string()), std::string_view(field.value()));
  };
  if (!error) take_head(parser.get());
  if (!error && !parser.is_done()) {
    if (auto refusal = handler.refuse_body(request)) {
      ++stats.requests_total;
      CO_TRY_OK(co_await refuse(c, std::move(*refusal)));
      co_return false;
    }
    if (beast::iequals(parser.get()[bhttp::field::expect], "100-continue")) {
      constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      co_await asio::async_write(c.stream, asio::buffer(kContinue), into(error));
    }
    if (!error) {
      c.lowest().expires_after(options.body_timeout);
      co_await bhttp::async_read(c.stream, c.buffer, parser, into(error));
    }
  }
  if (error) {
    note(error);
    if (error.category() != make_error_code(bhttp::error::end_of_stream).category() || error == bhttp::error::end_of_stream ||
        error == bhttp::error::partial_message)
      co_return false;
    ++stats.requests_malformed;
    const auto too_large = [](std::string_view part, std::uint64_t max) { return std::format("the request's {} larger than {} bytes", part, max); };
    if (error == bhttp::error::body_limit) {
      CO_TRY_OK(co_await refuse(c, plain(413, too_large("body is", options.body_bytes_max))));
    } else if (error == bhttp::error::header_limit || error == bhttp::error::buffer_overflow) {
      CO_TRY_OK(co_await refuse(c, plain(431, too_large("headers are", options.header_bytes_max))));
    } else {
      CO_TRY_OK(co_await refuse(c, plain(400, "the request is not valid HTTP/1.1: " + error.message())));
    }
    co_return false;
  }
  auto message = parser.release();
  keep_alive = message.keep_alive();
  http10 = message.version() < 11;
  request.body = std::move(message.body());
  co_return true;
}

// Head, body and tail in one piece, or in slices that each have the write timeout.
template <class S>
rt::Task<> Server::State::write(Connection<S>& c, std::string_view head, std::string_view body, std::string_view tail, ErrorCode& error) {
  const auto buffer = [](std::string_view text) { return asio::const_buffer(text.data(), text.size()); };
  do {
    const std::string_view slice = body.substr(0, kSliceBytes);
    body.remove_prefix(slice.size());
    c.lowest().expires_after(options.write_timeout);
    co_await asio::async_write(c.stream, std::array{buffer(head), buffer(slice), buffer(body.empty() ? tail : std::string_view())}, into(error));
    head = {};
  } while (!error && !body.empty());
  note(error);
  co_return Result<>{};
}

// Answers, then reads what the client still sends for a moment: closing at once would reset the answer away.
template <class S>
rt::Task<> Server::State::refuse(Connection<S>& c, Response response) {
  ErrorCode error;
  CO_TRY(const std::string head, head_of(response, Framing::Length, false));
  CO_TRY_OK(co_await write(c, head, response.text(), "", error));
  c.lowest().socket().shutdown(asio::socket_base::shutdown_send, error);
  c.lowest().expires_after(1s);
  std::array<char, 4096> sink;
  for (std::size_t total = 0; !error && total < kLingerBytesMax;)
    total += co_await c.lowest().async_read_some(asio::buffer(sink), into(error));
  co_return Result<>{};
}

template <class S>
rt::Task<bool> Server::State::write_response(std::shared_ptr<Session> session, std::shared_ptr<Connection<S>> c, Response response,
                                             bool keep_alive, bool http10, bool head_only) {
  keep_alive = keep_alive && !stopping && !(http10 && response.stream);
  const Framing framing = !response.stream ? Framing::Length : http10 ? Framing::UntilClose : Framing::Chunked;
  auto head = head_of(response, framing, keep_alive);
  if (!head) {
    LOG_ERROR("response refused", {"server", options.name}, {"error", head.error()});
    ++stats.handler_failures;
    CO_TRY_OK(co_await refuse(*c, plain(500, "internal error; the server's log says more")));
    co_return false;
  }
  if (http10 && keep_alive) head->insert(head->size() - 2, "Connection: keep-alive\r\n");
  const bool bodiless = head_only || response.status == 204 || response.status == 304;
  const std::string_view body = bodiless || response.stream ? std::string_view() : response.text();
  ErrorCode error;
  CO_TRY_OK(co_await write(*c, *head, body, "", error));
  if (error) co_return false;
  if (response.stream && !bodiless) {
    CO_TRY(const bool whole, co_await write_stream(session, c, std::move(response), framing));
    if (!whole) co_return false;
  }
  co_return keep_alive;
}

namespace {
// Reads while a stream is under way: an end or an error means that the client has gone. What arrives is kept in the
// buffer, as a pipelined request. One for each stream; shared with the read in flight.
template <class S>
struct DisconnectWatch : std::enable_shared_from_this<DisconnectWatch<S>> {
  DisconnectWatch(std::shared_ptr<Connection<S>> c, std::function<void()> f, rt::Loop& loop)
      : connection(std::move(c)), gone(std::move(f)), idle(loop) {}
  void arm() {
    reading = true;
    idle.reset();
    connection->lowest().expires_never();
    connection->stream.async_read_some(connection->buffer.prepare(kReadBytes),
                                       [self = this->shared_from_this()](ErrorCode error, std::size_t n) { self->on_read(error, n); });
  }
  void on_read(const ErrorCode& error, std::size_t n) {
    reading = false;
    connection->buffer.commit(n);
    if (!error && !finishing && connection->buffer.size() < kPipelinedBytesMax) return arm();
    idle.set();
    if (error && !finishing) gone();
  }
  // Before the stream's owner goes on: no read is in flight any more.
  rt::Task<> finish() {
    finishing = true;
    if (reading) connection->lowest().cancel();
    co_return co_await idle.wait();
  }
  std::shared_ptr<Connection<S>> connection;
  std::function<void()> gone;
  rt::Event idle;
  bool reading = false, finishing = false;
};
}  // namespace

template <class S>
rt::Task<bool> Server::State::write_stream(std::shared_ptr<Session> session, std::shared_ptr<Connection<S>> c, Response response,
                                           Framing framing) {
  const Counted counted(stats.streams_open);
  session->phase = Phase::Streaming;
  if (stopping) co_return false;
  const auto watch = std::make_shared<DisconnectWatch<S>>(c, session->cancel, loop);
  struct Quiet {  // however this ends, a late read cancels nobody
    DisconnectWatch<S>& watch;
    ~Quiet() { watch.finishing = true; }
  } quiet{*watch};
  watch->arm();
  Chunk chunk = response.body;
  for (;;) {
    if (chunk && !chunk->empty()) {
      const std::string size = framing == Framing::Chunked ? std::format("{:x}\r\n", chunk->size()) : std::string();
      ErrorCode error;
      CO_TRY_OK(co_await write(*c, size, *chunk, framing == Framing::Chunked ? "\r\n" : "", error));
      if (error) co_return false;
    }
    CO_TRY(auto next, co_await next_chunk(*response.stream));
    if (!next) break;
    chunk = std::move(*next);
  }
  response.stream = nullptr;
  session->phase = Phase::Busy;
  if (framing == Framing::Chunked) {
    ErrorCode error;
    CO_TRY_OK(co_await write(*c, "0\r\n\r\n", "", "", error));
    if (error) co_return false;
  }
  CO_TRY_OK(co_await watch->finish());
  co_return true;
}

Server::Server(rt::Loop& loop, Handler& handler, Options options)
    : state_(std::make_unique<State>(loop, handler, std::move(options))) {}

Server::~Server() { CHECK(!state_->started || state_->stopped); }

Result<> Server::start() {
  CHECK(!state_->started);
  if (state_->options.tls) TRY_OK(set_tls(*state_->options.tls));
  TRY_OK(state_->listen());
  state_->started = true;
  state_->drained.set();
  state_->tasks.spawn("accept " + state_->options.name, state_->accept());
  return {};
}

Result<> Server::set_tls(ServerTls tls) {
  TRY(state_->tls, make_server_context(tls));
  return {};
}

rt::Task<> Server::stop(Duration grace) {
  State& state = *state_;
  state.stopping = true;
  ErrorCode ignored;
  state.acceptor.close(ignored);
  if (!state.options.unix_path.empty() && state.started) ::unlink(state.options.unix_path.c_str());
  for (const auto& session : std::list(state.sessions))
    if (session->phase != Phase::Busy && session->cancel) session->cancel();
  if (!state.sessions.empty()) {
    CO_TRY(const bool drained, co_await state.drained.wait_for(grace));
    if (!drained) LOG_WARN("requests cut off", {"server", state.options.name}, {"connections", state.sessions.size()});
  }
  CO_TRY_OK(co_await state.tasks.stop());
  state.stopped = true;
  co_return Result<>{};
}

std::uint16_t Server::port() const { return state_->port; }
const Server::Stats& Server::stats() const { return state_->stats; }

}  // namespace skerry::http
