// SPDX-License-Identifier: Apache-2.0
#include "agent/keeper_driver.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <format>

#include "base/log.h"
#include "os/file.h"

namespace skerry::agent {
namespace {

constexpr std::size_t kEventsBeforeWelcomeMax = 65'536;  // a keeper cuts an agent off that leaves more unread
using Descriptor = rt::asio::posix::stream_descriptor;

// Waits on a duplicate, so that Asio's ownership never closes the client's own descriptor.
rt::Task<> wait_ready(rt::Loop& loop, int fd, Descriptor::wait_type what) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) co_return Fail(errno_error(errno, "duplicating the keeper's socket"));
  Descriptor descriptor(loop.executor(), copy);
  boost::system::error_code error;
  co_await descriptor.async_wait(what, rt::asio::redirect_error(rt::asio::use_awaitable, error));
  if (error) co_return Fail({Errc::Unavailable, "waiting on the keeper's socket: " + error.message()});
  co_return Result<>{};
}

}  // namespace

KeeperDriver::KeeperDriver(rt::Loop& loop, Options options, Callbacks callbacks)
    : loop_(loop), options_(std::move(options)), callbacks_(std::move(callbacks)), tasks_(loop) {}

rt::Task<> KeeperDriver::launch() {
  CO_TRY_OK(os::make_folders(options_.state_folder, 0700));
  os::SpawnOptions spawn;
  spawn.program = options_.program;
  spawn.arguments = {"keeper", "--socket", options_.socket.string(), "--state", options_.state_folder.string()};
  spawn.arguments.insert(spawn.arguments.end(), options_.arguments.begin(), options_.arguments.end());
  spawn.environment = options_.environment;
  spawn.fds = {{2, 2}};
  spawn.group = os::ProcessGroup::Own;  // it outlives the agent, also when a terminal ends that
  auto child = os::spawn(spawn);
  if (!child) co_return Fail(std::move(child).error().with(std::format("starting the keeper {}", options_.program.string())));
  child_ = std::move(*child);
  ++starts_;
  LOG_INFO("keeper started", {"pid", child_->pid()});
  co_return Result<>{};
}

// A connected client whose Welcome is there. Starts a keeper if nobody answers.
rt::Task<> KeeperDriver::connect() {
  Duration waited{0};
  bool launched = false;
  for (;;) {
    auto client = sandbox::KeeperClient::connect(options_.socket);
    if (client) {
      client_ = std::move(*client);
      auto first = co_await receive();
      // What happens to its pods meanwhile, a keeper tells before it has heard our Hello. Dump, or the refill, tells it again.
      for (std::size_t i = 0; i < kEventsBeforeWelcomeMax && first && *first && !std::holds_alternative<sandbox::Welcome>((**first).event); ++i)
        first = co_await receive();
      if (first && *first) {
        const auto* welcome = std::get_if<sandbox::Welcome>(&(**first).event);
        if (welcome == nullptr) co_return Fail({Errc::Corrupt, "the keeper does not say Welcome: is another program on its socket?"});
        if (welcome->version != sandbox::kKeeperProtocolVersion)
          co_return Fail({Errc::Unsupported, std::format("the running keeper (pid {}) speaks version {}, this agent {}: drain the node and stop that keeper",
                                                         welcome->pid, welcome->version, sandbox::kKeeperProtocolVersion)});
        welcome_ = *welcome;
        co_return Result<>{};
      }
      client_.reset();
    }
    if (child_) {
      auto ended = child_->try_wait();
      if (ended && *ended) {
        const std::string text = (**ended).text();
        child_.reset();
        if (launched) co_return Fail({Errc::Unavailable, std::format("the keeper {} ended at its start ({}); its reason is on standard error", options_.program.string(), text)});
      }
    }
    if (!launched) {
      CO_TRY_OK(co_await launch());
      launched = true;
    }
    if (waited >= options_.start_timeout) co_return Fail({Errc::Timeout, std::format("the keeper does not answer on {} after {}", options_.socket.string(), to_human(waited))});
    CO_TRY_OK(co_await rt::sleep_for(5ms));
    waited += 5ms;
  }
}

// The next event; nothing is never returned: an error says that the keeper is gone.
rt::Task<std::optional<sandbox::KeeperClient::Received>> KeeperDriver::receive() {
  for (;;) {
    if (!client_) co_return Fail({Errc::Unavailable, "no keeper"});
    auto received = client_->receive();
    if (!received) co_return Fail(std::move(received).error());
    if (*received) co_return std::move(*received);
    CO_TRY_OK(co_await wait_ready(loop_, client_->fd(), Descriptor::wait_read));
  }
}

rt::Task<KeeperDriver::Found> KeeperDriver::start() {
  Found found;
  const std::uint64_t before = starts_;
  CO_TRY_OK(co_await connect());
  found.started = starts_ != before;
  CO_TRY_OK(client_->send(sandbox::Dump{}));
  for (;;) {
    CO_TRY(auto received, co_await receive());
    if (auto* pod = std::get_if<sandbox::DumpedPod>(&received->event)) found.pods.push_back({std::move(*pod), std::move(received->fds)});
    else if (auto* left = std::get_if<sandbox::FoundPod>(&received->event)) found.unclaimed.push_back({std::move(*left), std::move(received->fds)});
    else if (auto* image = std::get_if<sandbox::DumpedImage>(&received->event)) found.images.push_back(std::move(*image));
    else if (std::holds_alternative<sandbox::DumpEnd>(received->event)) break;
    // Others are changes while it dumps; the rows that follow tell them too, and the owner is not ready for them.
  }
  co_return found;
}

void KeeperDriver::run() { tasks_.spawn("keeper events", pump()); }

void KeeperDriver::lost(const Error& error) {
  if (lost_ || ending_) return;
  lost_ = true;
  LOG_WARN("keeper lost", {"reason", error});
  client_.reset();
  ++generation_;
}

rt::Task<> KeeperDriver::pump() {
  Duration pause = options_.restart_min;
  for (;;) {
    auto received = co_await receive();
    if (received) {
      pause = options_.restart_min;
      callbacks_.on_event(std::move((**received).event));
      continue;
    }
    if (ending_) co_return Result<>{};
    lost(received.error());
    for (;;) {
      auto connected = co_await connect();
      if (connected) break;
      client_.reset();
      LOG_WARN("no keeper", {"reason", connected.error()}, {"again in", pause});
      CO_TRY_OK(co_await rt::sleep_for(pause));
      pause = std::min(pause * 2, options_.restart_max);
    }
    lost_ = false;
    LOG_INFO("keeper refilled", {"pid", welcome_.pid}, {"found", welcome_.found});
    callbacks_.refill();
    send(sandbox::Refilled{});
  }
}

void KeeperDriver::send(const sandbox::Command& command, std::span<const int> fds) {
  if (!client_) return;
  auto sent = client_->send(command, fds);
  if (!sent) {  // receive() sees the same and starts a new keeper
    LOG_WARN("keeper does not take a command", {"reason", sent.error()});
    return;
  }
  if (client_->pending() && !flushing_) {
    flushing_ = true;
    tasks_.spawn("keeper flush", flush());
  }
}

rt::Task<> KeeperDriver::flush() {
  const std::uint64_t generation = generation_;
  while (client_ && generation == generation_ && client_->pending()) {
    auto ready = co_await wait_ready(loop_, client_->fd(), Descriptor::wait_write);
    if (!ready || !client_ || generation != generation_) break;
    if (auto flushed = client_->flush(); !flushed) break;
  }
  flushing_ = false;
  if (client_ && client_->pending() && generation != generation_) {
    flushing_ = true;
    tasks_.spawn("keeper flush", flush());
  }
  co_return Result<>{};
}

rt::Task<> KeeperDriver::stop() {
  ending_ = true;
  CO_TRY_OK(co_await tasks_.stop());
  client_.reset();
  co_return Result<>{};
}

rt::Task<> KeeperDriver::shutdown(Duration grace) {
  ending_ = true;
  if (client_) {
    send(sandbox::Shutdown{.grace_ms = static_cast<std::uint32_t>(grace / 1ms)});
    Duration waited{0};
    const auto pidfd = os::open_pidfd(welcome_.pid);  // readable once it has ended, whoever its parent is
    while (pidfd && waited < grace + 5s) {
      pollfd ended{.fd = pidfd->get(), .events = POLLIN, .revents = 0};
      if (::poll(&ended, 1, 0) > 0) break;
      CO_TRY_OK(co_await rt::sleep_for(10ms));
      waited += 10ms;
    }
    if (child_) (void)child_->try_wait();
    if (waited >= grace + 5s) LOG_WARN("keeper did not end in time", {"pid", welcome_.pid}, {"waited", waited});
  }
  CO_TRY_OK(co_await tasks_.stop());
  client_.reset();
  co_return Result<>{};
}

}  // namespace skerry::agent
