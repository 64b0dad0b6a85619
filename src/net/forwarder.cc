// SPDX-License-Identifier: Apache-2.0
#include "net/forwarder.h"

#include <sys/stat.h>

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
#include <format>
#include <optional>
#include <set>

#include "base/log.h"
#include "os/file.h"

namespace skerry::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using ErrorCode = boost::system::error_code;

constexpr Duration kLookAgain = 1s, kProbePeriod = 100ms;
constexpr std::size_t kFileBytesMax = 64 * 1024;

auto into(ErrorCode& error) { return asio::redirect_error(asio::use_awaitable, error); }

// Closes a socket when its time is up. What waits for the socket then ends with an error.
template <class Socket>
class Watchdog {
 public:
  Watchdog(const std::shared_ptr<Socket>& socket, Duration timeout)
      : timer_(socket->get_executor()), fired_(std::make_shared<bool>(false)) {
    timer_.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(timeout));
    timer_.async_wait([socket, fired = fired_](const ErrorCode& error) {
      if (error) return;
      *fired = true;
      ErrorCode ignored;
      socket->close(ignored);
    });
  }
  bool fired() const { return *fired_; }

 private:
  asio::steady_timer timer_;
  std::shared_ptr<bool> fired_;
};

// After an operation that ended with operation_aborted: unwinds if this task was cancelled.
rt::Task<> unwind_if_cancelled() { co_return co_await rt::sleep_for(Duration::zero()); }

std::size_t size_of(const std::array<unsigned char, 2>& prefix) {
  return static_cast<std::size_t>(prefix[0]) << 8 | prefix[1];
}

Error silent(const std::string& address) { return {Errc::Timeout, "name server " + address + " does not answer"}; }
Error unreachable(const std::string& address, const ErrorCode& error) {
  return {Errc::Unavailable, std::format("name server {}: {}", address, error.message())};
}

}  // namespace

struct Forwarder::State {
  State(rt::Loop& loop, Upstreams::Options options)
      : upstreams(options),
        tasks(loop),
        suspicion(loop),
        reply(std::make_unique_for_overwrite<char[]>(kDnsTcpBytesMax)) {}
  Upstreams upstreams;
  rt::TaskGroup tasks;
  rt::Event suspicion;  // set when somebody may have to be probed
  std::set<std::string> probing;
  std::size_t in_flight = 0;
  // Every datagram is received here, without a wait between that and its use. Not cleared: what is not used is not in
  // memory.
  std::unique_ptr<char[]> reply;
  Instant looked_at{};
  struct stat seen{};
};

Forwarder::Forwarder(rt::Loop& loop, Random& random, Options options)
    : loop_(loop),
      random_(random),
      options_(std::move(options)),
      took_(metrics::latency_bounds()),
      state_(std::make_unique<State>(loop, options_.upstreams)) {}
Forwarder::~Forwarder() = default;

void Forwarder::start() {
  reread(clock_.instant());
  state_->tasks.spawn("name server probes", run_probes());
}
rt::Task<> Forwarder::stop() { return state_->tasks.stop(); }

bool Forwarder::has_room() const { return state_->in_flight < options_.in_flight_max; }
std::size_t Forwarder::known() const { return state_->upstreams.size(); }
std::size_t Forwarder::usable() const { return state_->upstreams.usable().size(); }

// By its identity, size and time of change: it is usually replaced, and sometimes written in place.
void Forwarder::reread(Instant now) {
  if (state_->looked_at != Instant{} && now < state_->looked_at + kLookAgain) return;
  state_->looked_at = now;
  struct stat found{};
  const bool there = ::stat(options_.resolv_conf.c_str(), &found) == 0;
  const struct stat& seen = state_->seen;
  if (there && found.st_ino == seen.st_ino && found.st_dev == seen.st_dev && found.st_size == seen.st_size &&
      found.st_ctim.tv_sec == seen.st_ctim.tv_sec && found.st_ctim.tv_nsec == seen.st_ctim.tv_nsec)
    return;
  if (!there && seen.st_ino == 0) return;
  state_->seen = found;
  const auto text = there ? os::read_small_file(options_.resolv_conf, kFileBytesMax) : Result<std::string>("");
  if (!text) LOG_WARN("upstream name servers not read", {"error", text.error()});
  const auto addresses = text ? Upstreams::parse(*text, options_.ours) : std::vector<std::string>{};
  state_->upstreams.set(addresses);
  std::string shown;
  for (const auto& address : addresses) shown += (shown.empty() ? "" : " ") + address;
  LOG_INFO("upstream name servers", {"file", options_.resolv_conf.string()}, {"servers", shown});
}

rt::Task<std::string> Forwarder::ask(std::string query, DnsQuestion question, Via via) {
  if (!has_room()) {
    ++counters_.refused;
    co_return Fail({Errc::Exhausted, std::format("{} queries are being forwarded already", options_.in_flight_max)});
  }
  struct Count {
    std::size_t& n;
    explicit Count(std::size_t& count) : n(count) { ++n; }
    ~Count() { --n; }
  } const count(state_->in_flight);
  const Instant start = clock_.instant(), end = start + options_.timeout_all;
  reread(start);
  const std::uint16_t id = id_of(query);
  std::optional<std::string> unwilling;
  for (const std::string& address : state_->upstreams.usable()) {
    const Duration left = end - clock_.instant();
    if (left <= Duration{0}) break;
    auto reply = co_await try_one(address, query, question, via, std::min(left, options_.timeout));
    if (!reply) {
      ++counters_.attempts_failed;
      // That TCP is not served, says nothing of the rest.
      if (via == Via::Udp) state_->upstreams.query_failed(address, clock_.instant());
      state_->suspicion.set();
      continue;
    }
    if (via == Via::Udp) (void)state_->upstreams.answered(address);
    set_id(*reply, id);
    const DnsCode code = reply_code(*reply);
    if (code == DnsCode::ServFail || code == DnsCode::NotImp || code == DnsCode::Refused) {
      unwilling = std::move(*reply);
      continue;
    }
    ++counters_.answered;
    took_.observe(clock_.instant() - start);
    co_return std::move(*reply);
  }
  if (unwilling) {
    ++counters_.answered;
    co_return std::move(*unwilling);
  }
  ++counters_.unavailable;
  co_return Fail({Errc::Unavailable, "no upstream name server answers"});
}

rt::Task<std::string> Forwarder::try_one(std::string address, std::string query, DnsQuestion question, Via via,
                                         Duration timeout) {
  ErrorCode error;
  const auto ip = asio::ip::make_address(address, error);
  if (error) co_return Fail({Errc::Unavailable, "\"" + address + "\" is no address of a name server"});
  const auto id = static_cast<std::uint16_t>(random_.next());
  set_id(query, id);
  if (via == Via::Udp) {
    const auto socket = std::make_shared<udp::socket>(loop_.context());
    const udp::endpoint endpoint(ip, options_.port);
    if (!error) socket->open(endpoint.protocol(), error);
    if (!error) socket->non_blocking(true, error);
    if (!error) socket->connect(endpoint, error);  // replies of nobody else come in; the kernel chooses a random port
    if (!error) socket->send(asio::buffer(query), 0, error);
    if (error) co_return Fail(unreachable(address, error));
    const Watchdog<udp::socket> watchdog(socket, timeout);
    for (;;) {
      co_await socket->async_wait(udp::socket::wait_read, into(error));
      if (error == asio::error::operation_aborted) CO_TRY_OK(co_await unwind_if_cancelled());
      if (watchdog.fired()) co_return Fail(silent(address));
      const std::size_t size = socket->receive(asio::buffer(state_->reply.get(), kDnsTcpBytesMax), 0, error);
      if (error == asio::error::would_block) continue;
      if (error) co_return Fail(unreachable(address, error));
      const std::string_view reply(state_->reply.get(), size);
      if (is_reply(reply, id, question)) co_return std::string(reply);
      ++counters_.mismatches;
    }
  }
  const auto socket = std::make_shared<tcp::socket>(loop_.context());
  const Watchdog<tcp::socket> watchdog(socket, timeout);
  std::string reply;
  co_await socket->async_connect({ip, options_.port}, into(error));
  if (!error) {
    const std::string framed{static_cast<char>(query.size() >> 8), static_cast<char>(query.size() & 0xff)};
    co_await asio::async_write(*socket, std::array<asio::const_buffer, 2>{asio::buffer(framed), asio::buffer(query)},
                               into(error));
  }
  std::array<unsigned char, 2> prefix{};
  if (!error) co_await asio::async_read(*socket, asio::buffer(prefix), into(error));
  if (!error) {
    reply.resize(size_of(prefix));
    co_await asio::async_read(*socket, asio::buffer(reply), into(error));
  }
  if (error == asio::error::operation_aborted) CO_TRY_OK(co_await unwind_if_cancelled());
  if (watchdog.fired()) co_return Fail(silent(address));
  if (error) co_return Fail(unreachable(address, error));
  if (is_reply(reply, id, question)) co_return reply;
  ++counters_.mismatches;
  co_return Fail({Errc::Unavailable, "name server " + address + " answered something else than it was asked"});
}

rt::Task<> Forwarder::run_probes() {
  for (;;) {
    if (state_->upstreams.all_alive()) CO_TRY_OK(co_await state_->suspicion.wait());
    state_->suspicion.reset();
    reread(clock_.instant());
    for (const std::string& address : state_->upstreams.due(clock_.instant()))
      if (state_->probing.insert(address).second) state_->tasks.spawn("name server probe", probe(address));
    CO_TRY_OK(co_await rt::sleep_for(kProbePeriod));
  }
}

rt::Task<> Forwarder::probe(std::string address) {
  struct Done {
    std::set<std::string>& probing;
    const std::string& address;
    ~Done() { probing.erase(address); }
  } const done{state_->probing, address};
  const DnsQuestion root{.name = "", .type = DnsType::Ns};
  CO_TRY(const std::string query, write_query(0, root));
  const auto reply = co_await try_one(address, query, root, Via::Udp, options_.probe_timeout);
  if (reply) {
    if (state_->upstreams.answered(address)) LOG_INFO("upstream name server answers again", {"address", address});
    co_return Result<>{};
  }
  ++counters_.attempts_failed;
  if (state_->upstreams.probe_failed(address, clock_.instant()))
    LOG_WARN("upstream name server is not asked until it answers a probe", {"address", address},
             {"error", reply.error()});
  co_return Result<>{};
}

}  // namespace skerry::net
