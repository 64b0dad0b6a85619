// SPDX-License-Identifier: Apache-2.0
#include "http/client.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <format>

#include "base/check.h"
#include "http/tls.h"

namespace skerry::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using Protocol = asio::generic::stream_protocol;
using Plain = beast::basic_stream<Protocol, asio::io_context::executor_type>;
using Secure = asio::ssl::stream<Plain>;
using ErrorCode = boost::system::error_code;
using Deadline = std::chrono::steady_clock::time_point;
using Parser = bhttp::response_parser<bhttp::string_body>;

constexpr std::size_t kReadBytes = 4096;
constexpr std::size_t kErrorBodyBytesMax = 1024 * 1024;
constexpr Duration kTurnMax = 3s;  // a slow first answer does not hold up others for longer
constexpr Duration kForever = std::chrono::hours(24 * 365);

auto into(ErrorCode& error) { return asio::redirect_error(asio::use_awaitable, error); }

// Held by the first connection to a peer that did not answer last: the others' turn comes when this one was answered, or failed.
class FirstTurn {
 public:
  explicit FirstTurn(rt::Event& turn) : turn_(turn) { turn_.reset(); }
  ~FirstTurn() { turn_.set(); }
  FirstTurn(const FirstTurn&) = delete;
  FirstTurn& operator=(const FirstTurn&) = delete;

 private:
  rt::Event& turn_;
};

// One connection. Operations are given a deadline; the caller keeps this alive until they end.
class Link {
 public:
  virtual ~Link() = default;
  virtual Plain& lowest() = 0;
  virtual rt::Task<> handshake(std::string name, ErrorCode& error, std::string& why) = 0;
  virtual rt::Task<> write(std::string_view head, std::string_view body, ErrorCode& error) = 0;
  virtual rt::Task<> read(ErrorCode& error) = 0;  // appends to `buffer`
  beast::flat_buffer buffer;
  Deadline released{};  // when it became idle
  std::uint64_t credentials = 0;  // which ones it was made with
  std::unique_ptr<FirstTurn> turn{};  // until it was answered

  // Kept, but closed by the server meanwhile (or talking out of turn)?
  bool stale() {
    char byte = 0;
    return ::recv(lowest().socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
  }
};

template <class S>
class LinkOf final : public Link {
 public:
  template <class... Args>
  explicit LinkOf(Args&&... args) : stream_(std::forward<Args>(args)...) {}
  Plain& lowest() override { return beast::get_lowest_layer(stream_); }
  rt::Task<> handshake([[maybe_unused]] std::string name, [[maybe_unused]] ErrorCode& error,
                       [[maybe_unused]] std::string& why) override {
    if constexpr (std::same_as<S, Secure>) {
      CO_TRY_OK(expect_server_name(stream_.native_handle(), name));
      resume_session(stream_.native_handle());
      co_await stream_.async_handshake(asio::ssl::stream_base::client, into(error));
      const long verified = SSL_get_verify_result(stream_.native_handle());
      if (error && verified != X509_V_OK) why = X509_verify_cert_error_string(verified);
    }
    co_return Result<>{};
  }
  rt::Task<> write(std::string_view head, std::string_view body, ErrorCode& error) override {
    co_await asio::async_write(stream_, std::array{asio::const_buffer(head.data(), head.size()), asio::const_buffer(body.data(), body.size())},
                               into(error));
    co_return Result<>{};
  }
  rt::Task<> read(ErrorCode& error) override {
    const std::size_t n = co_await stream_.async_read_some(buffer.prepare(kReadBytes), into(error));
    buffer.commit(n);
    // A peer that closes without TLS' goodbye: the framing says whether anything is missing.
    if (error == asio::ssl::error::stream_truncated) error = asio::error::eof;
    co_return Result<>{};
  }

 private:
  S stream_;
};

// A peer that vanished behind a dead line: what was sent to it and is not acknowledged ends the connection after a minute, and
// an idle stream asks after six (a probe and its answer are 104 bytes; a server's bookmarks come more often, and then none is sent).
// Whoever learns sooner that the line is lost opens its streams anew (client::Informer::reconnect).
void set_patience(Plain& stream) {
  ErrorCode ignored;
  stream.socket().set_option(asio::socket_base::keep_alive(true), ignored);
  constexpr std::pair<int, int> kPatience[] = {{TCP_KEEPIDLE, 360}, {TCP_KEEPINTVL, 15}, {TCP_KEEPCNT, 4}, {TCP_USER_TIMEOUT, 60'000}};
  for (const auto& [option, value] : kPatience) ::setsockopt(stream.socket().native_handle(), IPPROTO_TCP, option, &value, sizeof value);
}

bool has_line_break(std::string_view text) { return text.find_first_of(std::string_view("\r\n\0", 3)) != text.npos; }

bool repeatable(std::string_view method) { return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE"; }

// Feeds what is buffered, and reads until the parser has its headers (its whole message). EOF ends a body without length.
enum class Until : std::uint8_t { Headers, SomeBody, End };
rt::Task<> parse_until(Link& link, Parser& parser, Until until, std::size_t body_max, ErrorCode& error) {
  for (;;) {
    if (until == Until::Headers ? parser.is_header_done() : parser.is_done()) co_return Result<>{};
    if (until == Until::SomeBody && !parser.get().body().empty()) co_return Result<>{};
    if (link.buffer.size() > 0) {
      const std::size_t used = parser.put(link.buffer.data(), error);
      link.buffer.consume(used);
      if (error == bhttp::error::need_more) error = {};
      if (error) co_return Result<>{};
      if (parser.get().body().size() > body_max) {
        error = bhttp::error::body_limit;
        co_return Result<>{};
      }
      if (used > 0) continue;
    }
    CO_TRY_OK(co_await link.read(error));
    if (error == asio::error::eof && parser.got_some()) {
      error = {};
      parser.put_eof(error);  // partial_message, unless the end of the connection ends the body
      if (error) co_return Result<>{};
    } else if (error) {
      co_return Result<>{};
    }
  }
}

}  // namespace

struct HttpsTransport::State {
  explicit State(rt::Loop& l, Options o) : loop(l), options(std::move(o)), turn(l) { turn.set(); }
  std::string peer() const { return options.unix_path.empty() ? std::format("{}:{}", options.host, options.port) : options.unix_path; }
  Result<> set(std::optional<ClientTls> tls_options, std::string token);
  Result<std::string> head_of(const Request&) const;
  std::unique_ptr<Link> take_idle();
  void keep(std::unique_ptr<Link> link);
  rt::Task<std::vector<Protocol::endpoint>> resolve(Deadline deadline);
  rt::Task<std::unique_ptr<Link>> connect(Deadline deadline);
  rt::Task<> await_turn(Deadline deadline);
  // `link` is moved from when it is kept or when a stream takes it.
  rt::Task<Response> exchange(std::shared_ptr<State> self, std::unique_ptr<Link> link, std::string_view head, std::string_view body,
                              BodyMode mode, bool head_only, Deadline deadline);
  Error broken(const ErrorCode& error, std::string_view step) const;

  rt::Loop& loop;
  Options options;
  TlsContext tls;
  std::string server_name;
  std::vector<std::unique_ptr<Link>> idle;
  std::size_t active = 0;
  std::uint64_t credentials = 0;  // counts their changes
  // Whether the peer answered last; set while nobody makes the first TLS connection to one that did not.
  bool answers = false;
  rt::Event turn;
};

namespace {
class ActiveCount {
 public:
  explicit ActiveCount(std::size_t& n) : n_(n) { ++n_; }
  ~ActiveCount() { --n_; }
  ActiveCount(const ActiveCount&) = delete;
  ActiveCount& operator=(const ActiveCount&) = delete;

 private:
  std::size_t& n_;
};

class BodyStream final : public Stream {
 public:
  using Keep = std::function<void(std::unique_ptr<Link>)>;
  BodyStream(std::unique_ptr<Link> link, std::unique_ptr<Parser> parser, std::string peer, Keep keep)
      : link_(std::move(link)), parser_(std::move(parser)), peer_(std::move(peer)), keep_(std::move(keep)) {}
  rt::Task<std::optional<Chunk>> next() override {
    if (!link_) co_return std::nullopt;
    ErrorCode error;
    link_->lowest().expires_never();
    CO_TRY_OK(co_await parse_until(*link_, *parser_, Until::SomeBody, SIZE_MAX, error));
    if (error == asio::error::operation_aborted) co_return Fail({Errc::Cancelled, "the stream was cancelled"});
    if (error) co_return Fail({Errc::Unavailable, std::format("the stream from {} broke: {}", peer_, error.message())});
    if (parser_->get().body().empty()) {
      // Ended in order: the next request, mostly the same watch again, needs no new connection.
      if (parser_->get().keep_alive() && link_->buffer.size() == 0) keep_(std::move(link_));
      link_ = nullptr;
      co_return std::nullopt;
    }
    co_return std::make_shared<const std::string>(std::exchange(parser_->get().body(), {}));
  }

 private:
  std::unique_ptr<Link> link_;  // null: the body has ended
  std::unique_ptr<Parser> parser_;
  std::string peer_;
  Keep keep_;
};
}  // namespace

Result<> HttpsTransport::State::set(std::optional<ClientTls> tls_options, std::string token) {
  if (has_line_break(token)) return Fail({Errc::Invalid, "the bearer token contains a line break"});
  TlsContext context;
  if (tls_options) {
    TRY(context, make_client_context(*tls_options));
  }
  server_name = tls_options && !tls_options->server_name.empty() ? tls_options->server_name : options.host;
  tls = std::move(context);
  options.tls = std::move(tls_options);
  options.bearer_token = std::move(token);
  idle.clear();
  answers = false;
  ++credentials;
  return {};
}

Error HttpsTransport::State::broken(const ErrorCode& error, std::string_view step) const {
  if (error == asio::error::operation_aborted) return {Errc::Cancelled, std::format("{}: cancelled ({})", peer(), step)};
  if (error == beast::error::timeout) return {Errc::Timeout, std::format("{} did not answer in time ({})", peer(), step)};
  if (error.category() == make_error_code(bhttp::error::end_of_stream).category() && error != bhttp::error::end_of_stream &&
      error != bhttp::error::partial_message)
    return {Errc::Corrupt, std::format("{} sent no valid HTTP answer: {}", peer(), error.message())};
  if (error == asio::error::eof || error == bhttp::error::end_of_stream || error == bhttp::error::partial_message)
    return {Errc::Unavailable, std::format("{} closed the connection ({})", peer(), step)};
  return {Errc::Unavailable, std::format("cannot {} {}: {}", step, peer(), error.message())};
}

Result<std::string> HttpsTransport::State::head_of(const Request& request) const {
  if (request.method.empty() || has_line_break(request.method) || !request.target.starts_with('/') || has_line_break(request.target) ||
      request.target.find(' ') != request.target.npos)
    return Fail({Errc::Invalid, "the request's method or target is malformed"});
  std::string out = std::format("{} {} HTTP/1.1\r\n", request.method, request.target);
  const bool v6 = options.host.find(':') != options.host.npos;
  if (!request.headers.has("Host"))
    out += options.unix_path.empty() ? std::format("Host: {}{}{}:{}\r\n", v6 ? "[" : "", options.host, v6 ? "]" : "", options.port) : "Host: localhost\r\n";
  if (!request.headers.has("User-Agent")) out += std::format("User-Agent: {}\r\n", options.user_agent);
  if (!options.bearer_token.empty() && !request.headers.has("Authorization"))
    out += std::format("Authorization: Bearer {}\r\n", options.bearer_token);
  for (const auto& [name, value] : request.headers.all()) {
    if (name.empty() || has_line_break(name) || has_line_break(value) || name.find(':') != name.npos)
      return Fail({Errc::Invalid, "a request header has a line break or a bad name"});
    if (beast::iequals(name, "content-length") || beast::iequals(name, "transfer-encoding") || beast::iequals(name, "connection")) continue;
    out.append(name).append(": ").append(value).append("\r\n");
  }
  if (!request.body.empty() || request.method == "POST" || request.method == "PUT" || request.method == "PATCH")
    out += std::format("Content-Length: {}\r\n", request.body.size());
  out += "\r\n";
  return out;
}

std::unique_ptr<Link> HttpsTransport::State::take_idle() {
  while (!idle.empty()) {
    auto link = std::move(idle.back());
    idle.pop_back();
    const bool old = std::chrono::steady_clock::now() - link->released > options.idle_timeout;
    if (!old && !link->stale()) return link;
  }
  return nullptr;
}

void HttpsTransport::State::keep(std::unique_ptr<Link> link) {
  if (link->credentials != credentials) return;  // they changed while it was in use
  link->released = std::chrono::steady_clock::now();
  std::erase_if(idle, [&](const auto& other) { return link->released - other->released > options.idle_timeout; });
  if (idle.size() < options.idle_connections_max) idle.push_back(std::move(link));
}

rt::Task<std::vector<Protocol::endpoint>> HttpsTransport::State::resolve(Deadline deadline) {
  std::vector<Protocol::endpoint> out;
  ErrorCode error;
  if (!options.unix_path.empty()) {
    if (options.unix_path.size() >= 108) co_return Fail({Errc::Invalid, options.unix_path + ": the socket's path is longer than 107 bytes"});
    out.emplace_back(asio::local::stream_protocol::endpoint(options.unix_path));
    co_return out;
  }
  const auto address = asio::ip::make_address(options.host, error);
  if (!error) {
    out.emplace_back(asio::ip::tcp::endpoint(address, options.port));
    co_return out;
  }
  error = {};
  const auto resolver = std::make_shared<asio::ip::tcp::resolver>(loop.context());  // shared: the timer's handler may come late
  asio::steady_timer timer(loop.context(), deadline);
  timer.async_wait([resolver](const ErrorCode& cancelled) {
    if (!cancelled) resolver->cancel();
  });
  const auto found = co_await resolver->async_resolve(options.host, std::to_string(options.port), into(error));
  if (timer.cancel() == 0 && error == asio::error::operation_aborted) error = beast::error::timeout;
  if (error) co_return Fail(broken(error, "find the address of"));
  for (const auto& entry : found) out.emplace_back(entry.endpoint());
  co_return out;
}

// After a break everybody connects anew at once, with tickets that a new server process does not know. So one makes its handshake
// ahead: the session that it brings is resumed by the others.
rt::Task<> HttpsTransport::State::await_turn(Deadline deadline) {
  const Deadline end = std::min(deadline, std::chrono::steady_clock::now() + kTurnMax);
  while (tls.context && !answers && !turn.is_set()) {
    CO_TRY(const bool came, co_await turn.wait_for(end - std::chrono::steady_clock::now()));
    if (!came) break;
  }
  co_return Result<>{};
}

rt::Task<std::unique_ptr<Link>> HttpsTransport::State::connect(Deadline deadline) {
  CO_TRY(const auto endpoints, co_await resolve(deadline));
  std::optional<Error> last;
  for (const auto& endpoint : endpoints) {
    std::unique_ptr<Link> link;
    if (tls.context) {
      SSL_CTX_up_ref(tls.context.get());
      asio::ssl::context context(tls.context.get());  // takes that reference
      link = std::make_unique<LinkOf<Secure>>(loop.context().get_executor(), context);
    } else {
      link = std::make_unique<LinkOf<Plain>>(loop.context().get_executor());
    }
    link->credentials = credentials;
    ErrorCode error, ignored;
    link->lowest().expires_at(deadline);
    co_await link->lowest().async_connect(endpoint, into(error));
    if (error) {
      last = broken(error, "connect to");
      continue;
    }
    if (options.unix_path.empty()) {
      link->lowest().socket().set_option(asio::ip::tcp::no_delay(true), ignored);
      set_patience(link->lowest());
    }
    if (tls.context) {
      CO_TRY_OK(co_await await_turn(deadline));
      if (!answers && turn.is_set()) link->turn = std::make_unique<FirstTurn>(turn);
    }
    std::string why;
    link->lowest().expires_at(deadline);
    CO_TRY_OK(co_await link->handshake(server_name, error, why));
    if (!error) co_return link;
    last = why.empty() ? broken(error, "make a TLS connection to")
                       : Error{Errc::Unavailable, std::format("cannot trust {} as {}: {}", peer(), server_name, why)};
  }
  co_return Fail(last.value_or(Error{Errc::Unavailable, "no address was found for " + peer()}));
}

rt::Task<Response> HttpsTransport::State::exchange(std::shared_ptr<State> self, std::unique_ptr<Link> link, std::string_view head,
                                                   std::string_view body, BodyMode mode, bool head_only, Deadline deadline) {
  ErrorCode error;
  link->lowest().expires_at(deadline);
  CO_TRY_OK(co_await link->write(head, body, error));
  // A server may answer and close before it has read everything (413): its answer is worth reading.
  const ErrorCode write_error = error;
  if (error == beast::error::timeout) co_return Fail(broken(error, "send a request to"));
  error = {};
  auto parser = std::make_unique<Parser>();
  for (;;) {
    parser->header_limit(options.header_bytes_max);
    if (mode == BodyMode::Streamed) parser->body_limit(boost::none);
    else parser->body_limit(options.body_bytes_max);
    parser->skip(head_only);
    parser->eager(false);
    link->lowest().expires_at(deadline);
    CO_TRY_OK(co_await parse_until(*link, *parser, Until::Headers, SIZE_MAX, error));
    if (error) co_return Fail(broken(write_error ? write_error : error, write_error ? "send a request to" : "read the answer of"));
    if (parser->get().result_int() >= 200) break;
    parser = std::make_unique<Parser>();  // 1xx: the answer follows
  }
  answers = true;
  link->turn.reset();
  Response out;
  out.status = static_cast<int>(parser->get().result_int());
  for (const auto& field : parser->get()) out.headers.add(std::string_view(field.name_string()), std::string_view(field.value()));
  parser->eager(true);
  if (mode == BodyMode::Streamed && out.status < 300) {
    out.stream = std::make_unique<BodyStream>(std::move(link), std::move(parser), peer(), [weak = std::weak_ptr(self)](std::unique_ptr<Link> ended) {
      if (const auto state = weak.lock()) state->keep(std::move(ended));
    });
    co_return out;
  }
  const std::size_t body_max = mode == BodyMode::Streamed ? kErrorBodyBytesMax : SIZE_MAX;
  CO_TRY_OK(co_await parse_until(*link, *parser, Until::End, body_max, error));
  if (error) co_return Fail(broken(error, "read the answer of"));
  out.body = std::make_shared<const std::string>(std::move(parser->get().body()));
  if (parser->get().keep_alive() && !write_error && link->buffer.size() == 0) self->keep(std::move(link));
  co_return out;
}

Result<std::unique_ptr<HttpsTransport>> HttpsTransport::create(rt::Loop& loop, Options options) {
  if (options.unix_path.empty() && (options.host.empty() || options.port == 0))
    return Fail({Errc::Invalid, "no host and port (or socket path) to connect to"});
  if (options.host.find_first_of("\r\n /@") != std::string::npos || has_line_break(options.user_agent))
    return Fail({Errc::Invalid, "the host name or user agent is malformed"});
  auto state = std::make_shared<State>(loop, std::move(options));
  TRY_OK(state->set(std::move(state->options.tls), std::move(state->options.bearer_token)));
  return std::unique_ptr<HttpsTransport>(new HttpsTransport(std::move(state)));
}

HttpsTransport::HttpsTransport(std::shared_ptr<State> state) : state_(std::move(state)) {}
HttpsTransport::~HttpsTransport() = default;

Result<> HttpsTransport::set_credentials(std::optional<ClientTls> tls, std::string bearer_token) {
  return state_->set(std::move(tls), std::move(bearer_token));
}

rt::Task<Response> HttpsTransport::send(Request request, BodyMode mode, Duration timeout) {
  const auto state = state_;
  CO_TRY(const std::string head, state->head_of(request));
  if (mode == BodyMode::Whole && state->active >= state->options.connections_max)
    co_return Fail({Errc::Exhausted, std::format("{} exchanges with {} are under way, which is the limit", state->active, state->peer())});
  const ActiveCount counted(state->active);
  const Deadline deadline = std::chrono::steady_clock::now() + std::clamp(timeout, Duration::zero(), kForever);
  for (;;) {
    auto link = state->take_idle();
    const bool reused = link != nullptr;
    if (!link) {
      const Deadline connected_by = std::min(deadline, std::chrono::steady_clock::now() + std::clamp(state->options.connect_timeout, Duration::zero(), kForever));
      auto made = co_await state->connect(connected_by);
      if (!made) state->answers = false;
      CO_TRY(link, std::move(made));
    }
    auto response = co_await state->exchange(state, std::move(link), head, request.body, mode, request.method == "HEAD", deadline);
    // Kept ones of a line that does not answer are as dead: the next exchange should not wait for another of them.
    if (!response && reused && response.error().code == Errc::Timeout) state->idle.clear();
    if (!response && response.error().code != Errc::Cancelled) state->answers = false;
    if (!response && reused && response.error().code == Errc::Unavailable && repeatable(request.method)) {
      state->idle.clear();  // they are as old: the next round connects anew
      continue;
    }
    co_return response;
  }
}

}  // namespace skerry::http
