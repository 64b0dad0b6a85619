// SPDX-License-Identifier: Apache-2.0
#include "net/name_server.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <list>
#include <optional>
#include <utility>

#include "base/log.h"
#include "rt/task_group.h"

namespace skerry::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using ErrorCode = boost::system::error_code;
using Via = Forwarder::Via;

constexpr std::size_t kDatagramsAtOnce = 64;  // then others on the loop have their turn
constexpr Duration kAcceptAgain = 100ms;      // after an error such as too many open files

auto into(ErrorCode& error) { return asio::redirect_error(asio::use_awaitable, error); }

struct Connection {
  explicit Connection(tcp::socket s) : socket(std::move(s)), timer(socket.get_executor()) {}
  tcp::socket socket;
  asio::steady_timer timer;
};

}  // namespace

struct NameServer::State {
  State(rt::Loop& l, Random& r, Options o)
      : loop(l),
        random(r),
        options(std::move(o)),
        names(options.names),
        forwarder(l, r, options.forward),
        udp_socket(l.context()),
        acceptor(l.context()),
        tasks(l),
        buffer(options.query_bytes_max, '\0') {}

  // A query that cannot be answered at once.
  struct Pending {
    DnsQuery query;
    std::string bytes;                   // as it came
    std::optional<Names::Answer> alias;  // an ExternalName's, to be followed
  };
  // The bytes to send now (empty: none), or what has to be waited for.
  std::variant<std::string, Pending> handle(std::string_view bytes, Via via);
  rt::Task<std::string> resolve(Pending pending, Via via);
  rt::Task<DnsAnswer> follow(Pending pending);
  std::string write(const DnsQuery& query, const DnsAnswer& answer, Via via);
  void rotate(std::vector<DnsRecord>& records);

  rt::Task<> serve_datagrams();
  rt::Task<> resolve_datagram(Pending pending, udp::endpoint from);
  void send(std::string_view bytes, const udp::endpoint& to);
  rt::Task<> accept();
  rt::Task<> serve(std::shared_ptr<Connection> connection);
  void close_idlest();

  rt::Loop& loop;
  Random& random;
  Options options;
  Names names;
  Forwarder forwarder;
  udp::socket udp_socket;
  tcp::acceptor acceptor;
  rt::TaskGroup tasks;
  Counters counters;
  std::string buffer;                                  // of datagrams
  std::list<std::shared_ptr<Connection>> connections;  // the one that has been heard of least recently first
};

// --- one query -----------------------------------------------------------------------------------------------------

// Clients take the first address: each gets another one first.
void NameServer::State::rotate(std::vector<DnsRecord>& records) {
  if (records.size() < 2 || records.front().type == DnsType::Cname) return;
  std::ranges::rotate(records, records.begin() + static_cast<std::ptrdiff_t>(random.below(records.size())));
}

std::string NameServer::State::write(const DnsQuery& query, const DnsAnswer& answer, Via via) {
  const std::size_t most =
      via == Via::Tcp ? kDnsTcpBytesMax : std::min<std::size_t>(query.udp_bytes_max, options.udp_bytes_max);
  std::string out = write_answer(query, answer, most);
  if (reply_truncated(out)) ++counters.truncated;
  return out;
}

std::variant<std::string, NameServer::State::Pending> NameServer::State::handle(std::string_view bytes, Via via) {
  ++(via == Via::Udp ? counters.udp : counters.tcp);
  auto query = read_query(bytes);
  if (!query) {
    ++counters.malformed;
    return std::move(query).error();
  }
  const DnsQuestion& question = query->question;
  const bool transfer = question.type == DnsType::Axfr || question.type == DnsType::Ixfr;
  if (transfer || (question.klass != kDnsClassIn && question.klass != kDnsClassAny)) {
    ++counters.refused;
    return write(*query, {.code = DnsCode::Refused}, via);
  }
  if (question.type == DnsType::Opt) {  // it is no question
    ++counters.malformed;
    return write(*query, {.code = DnsCode::FormErr}, via);
  }
  auto answer = names.answer(question);
  if (!answer || !answer->follow.empty()) {
    if (forwarder.has_room()) return Pending{std::move(*query), std::string(bytes), std::move(answer)};
    ++counters.failed;
    return write(*query, {.code = DnsCode::ServFail}, via);
  }
  DnsAnswer& message = answer->message;
  ++(message.code == DnsCode::ServFail   ? counters.failed
     : message.code == DnsCode::NxDomain ? counters.no_such_name
     : message.answers.empty()           ? counters.no_data
                                         : counters.answered);
  rotate(message.answers);
  return write(*query, message, via);
}

rt::Task<std::string> NameServer::State::resolve(Pending pending, Via via) {
  const DnsQuery query = pending.query;
  if (pending.alias) {
    auto whole = co_await follow(std::move(pending));
    if (!whole) co_return Fail(std::move(whole).error());
    ++(whole->code == DnsCode::ServFail ? counters.failed : counters.forwarded);
    co_return write(query, *whole, via);
  }
  auto reply = co_await forwarder.ask(std::move(pending.bytes), query.question, via);
  if (!reply) {
    ++counters.failed;
    co_return write(query, {.code = DnsCode::ServFail}, via);
  }
  ++counters.forwarded;
  // Whatever an upstream sends: no datagram is larger than the client said.
  if (via == Via::Udp && reply->size() > query.udp_bytes_max) {
    co_return write(query, {.code = reply_code(*reply), .truncated = true}, via);
  }
  co_return std::move(*reply);
}

// The alias with the records of its target. The code is the target's (RFC 6604).
rt::Task<DnsAnswer> NameServer::State::follow(Pending pending) {
  DnsAnswer out = std::move(pending.alias->message);
  DnsQuestion question = pending.query.question;
  question.name = pending.alias->follow;
  const auto query = write_query(0, question);
  Result<std::string> reply = Fail({Errc::Invalid, "no name"});
  if (query) {
    reply = co_await forwarder.ask(*query, question, Via::Udp);
    if (reply && reply_truncated(*reply)) reply = co_await forwarder.ask(*query, question, Via::Tcp);
  }
  auto read = reply ? read_reply(*reply) : Result<DnsAnswer>(Fail(reply.error()));
  if (!read) {
    out.code = DnsCode::ServFail;
    co_return out;
  }
  out.code = read->code;
  std::ranges::move(read->answers, std::back_inserter(out.answers));
  co_return out;
}

// --- datagrams -----------------------------------------------------------------------------------------------------

void NameServer::State::send(std::string_view bytes, const udp::endpoint& to) {
  if (bytes.empty()) return;
  ErrorCode error;
  udp_socket.send_to(asio::buffer(bytes), to, 0, error);
  if (error) ++counters.unsent;
}

rt::Task<> NameServer::State::resolve_datagram(Pending pending, udp::endpoint from) {
  CO_TRY(const std::string reply, co_await resolve(std::move(pending), Via::Udp));
  send(reply, from);
  co_return Result<>{};
}

rt::Task<> NameServer::State::serve_datagrams() {
  ErrorCode error;
  for (;;) {
    co_await udp_socket.async_wait(udp::socket::wait_read, into(error));
    if (error == asio::error::operation_aborted) co_await asio::post(asio::use_awaitable);  // cancelled: this throws
    for (std::size_t i = 0; i < kDatagramsAtOnce; ++i) {
      udp::endpoint from;
      const std::size_t size = udp_socket.receive_from(asio::buffer(buffer), from, 0, error);
      if (error) break;  // nothing more, or an ICMP error of an earlier answer
      auto step = handle(std::string_view(buffer.data(), size), Via::Udp);
      if (auto* pending = std::get_if<Pending>(&step))
        tasks.spawn("name forwarded", resolve_datagram(std::move(*pending), from));
      else
        send(std::get<std::string>(step), from);
    }
    co_await asio::post(asio::use_awaitable);
  }
}

// --- connections ---------------------------------------------------------------------------------------------------

void NameServer::State::close_idlest() {
  ErrorCode ignored;
  connections.front()->socket.close(ignored);  // its task ends with the read
  connections.pop_front();
  ++counters.connections_dropped;
}

rt::Task<> NameServer::State::accept() {
  for (;;) {
    ErrorCode error;
    tcp::socket socket(loop.context());
    co_await acceptor.async_accept(socket, into(error));
    if (error == asio::error::operation_aborted) co_await asio::post(asio::use_awaitable);
    if (error) {
      CO_TRY_OK(co_await rt::sleep_for(kAcceptAgain));
      continue;
    }
    ++counters.connections;
    if (connections.size() >= options.connections_max) close_idlest();
    connections.push_back(std::make_shared<Connection>(std::move(socket)));
    tasks.spawn("name connection", serve(connections.back()));
  }
}

rt::Task<> NameServer::State::serve(std::shared_ptr<Connection> connection) {
  struct Leave {
    State& state;
    const std::shared_ptr<Connection>& connection;
    ~Leave() {
      connection->timer.cancel();
      ErrorCode ignored;
      connection->socket.close(ignored);
      std::erase(state.connections, connection);
    }
  } const leave{*this, connection};
  ErrorCode error;
  std::array<unsigned char, 2> prefix{};
  std::string message;
  for (;;) {
    connection->timer.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(options.idle_max));
    connection->timer.async_wait([connection](const ErrorCode& cancelled) {
      ErrorCode ignored;
      if (!cancelled) connection->socket.close(ignored);
    });
    co_await asio::async_read(connection->socket, asio::buffer(prefix), into(error));
    const std::size_t size = static_cast<std::size_t>(prefix[0]) << 8 | prefix[1];
    if (!error && size > options.query_bytes_max) {
      ++counters.malformed;
      co_return Result<>{};
    }
    if (!error) {
      message.resize(size);
      co_await asio::async_read(connection->socket, asio::buffer(message), into(error));
    }
    if (error == asio::error::operation_aborted) co_await asio::post(asio::use_awaitable);
    if (error) co_return Result<>{};
    const auto here = std::ranges::find(connections, connection);
    if (here != connections.end()) connections.splice(connections.end(), connections, here);
    auto step = handle(message, Via::Tcp);
    std::string reply;
    if (auto* pending = std::get_if<Pending>(&step)) {
      CO_TRY(reply, co_await resolve(std::move(*pending), Via::Tcp));
    } else {
      reply = std::move(std::get<std::string>(step));
    }
    if (reply.empty()) co_return Result<>{};  // what deserves silence deserves no connection
    const std::string length{static_cast<char>(reply.size() >> 8), static_cast<char>(reply.size() & 0xff)};
    co_await asio::async_write(
        connection->socket, std::array<asio::const_buffer, 2>{asio::buffer(length), asio::buffer(reply)}, into(error));
    if (error == asio::error::operation_aborted) co_await asio::post(asio::use_awaitable);
    if (error) co_return Result<>{};
  }
}

// --- the public face -----------------------------------------------------------------------------------------------

NameServer::NameServer(rt::Loop& loop, Random& random, Options options)
    : state_(std::make_unique<State>(loop, random, std::move(options))) {}
NameServer::~NameServer() = default;

Names& NameServer::names() { return state_->names; }
const NameServer::Counters& NameServer::counters() const { return state_->counters; }

Result<> NameServer::start(os::UniqueFd udp_fd, os::UniqueFd tcp_fd) {
  ErrorCode error;
  state_->udp_socket.assign(udp::v4(), udp_fd.get(), error);
  if (error) return Fail({Errc::Internal, "name server: " + error.message()});
  (void)udp_fd.release();
  state_->acceptor.assign(tcp::v4(), tcp_fd.get(), error);
  if (error) return Fail({Errc::Internal, "name server: " + error.message()});
  (void)tcp_fd.release();
  state_->udp_socket.non_blocking(true, error);
  state_->forwarder.start();
  state_->tasks.spawn("name datagrams", state_->serve_datagrams());
  state_->tasks.spawn("name connections", state_->accept());
  return {};
}

rt::Task<> NameServer::stop() {
  CO_TRY_OK(co_await state_->tasks.stop());
  CO_TRY_OK(co_await state_->forwarder.stop());
  ErrorCode ignored;
  state_->udp_socket.close(ignored);
  state_->acceptor.close(ignored);
  co_return Result<>{};
}

void NameServer::write_metrics(metrics::Exposition& out) const {
  using metrics::Type;
  const Counters& c = state_->counters;
  const Forwarder& f = state_->forwarder;
  out.family("skerry_names_queries_total", Type::Counter, "Queries to the node's name server");
  out.sample({{"proto", "tcp"}}, c.tcp);
  out.sample({{"proto", "udp"}}, c.udp);
  out.family("skerry_names_responses_total", Type::Counter, "Its answers, by what became of the query");
  const auto result = [&](const char* name, std::uint64_t value) { out.sample({{"result", name}}, value); };
  result("answered", c.answered);
  result("failed", c.failed);
  result("forwarded", c.forwarded);
  result("malformed", c.malformed);
  result("nodata", c.no_data);
  result("nxdomain", c.no_such_name);
  result("refused", c.refused);
  const auto counter = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    out.family(name, Type::Counter, help);
    out.sample({}, value);
  };
  counter("skerry_names_truncated_total", "Answers that did not fit", c.truncated);
  counter("skerry_names_connections_total", "TCP connections to the name server", c.connections);
  counter("skerry_names_connections_dropped_total", "Those closed to make room", c.connections_dropped);
  counter("skerry_names_forward_attempts_failed_total", "Upstream name servers that did not answer a query or probe",
          f.counters().attempts_failed);
  counter("skerry_names_forward_mismatches_total", "Messages of upstreams that were no reply to what was asked",
          f.counters().mismatches);
  counter("skerry_names_forward_refused_total", "Queries not forwarded because too many were", f.counters().refused);
  out.family("skerry_names_forward_seconds", Type::Histogram, "From a query to the upstream's reply");
  out.sample({}, f.took());
  out.family("skerry_names_upstreams", Type::Gauge, "Upstream name servers");
  out.sample({{"state", "alive"}}, static_cast<std::uint64_t>(f.usable()));
  out.sample({{"state", "dead"}}, static_cast<std::uint64_t>(f.known() - f.usable()));
  out.family("skerry_names_services", Type::Gauge, "Services that the name server knows");
  out.sample({}, static_cast<std::uint64_t>(state_->names.services()));
}

}  // namespace skerry::net
