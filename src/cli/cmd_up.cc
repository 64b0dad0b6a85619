// SPDX-License-Identifier: Apache-2.0
// `skerry up`: starts `skerry server` and `skerry node` from this very executable, starts either again when it dies, and
// ends both on SIGTERM or SIGINT: first the node, so that its last status still finds the server. Killed itself, it takes both with
// it, as if they had been killed: pods go on, and the next `skerry up` finds them. What fails by itself
// before it ever ran (a port is taken, a kernel lacks something) would fail again: then `up` ends, with exit code 1.
#include <unistd.h>

#include <csignal>
#include <format>
#include <functional>

#include "base/log.h"
#include "cli/cmd.h"
#include "cli/layout.h"
#include "cli/restart_policy.h"
#include "os/file.h"
#include "os/spawn.h"
#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry::cli {
namespace {

std::string text_of(const Endpoint& e) {
  return e.address.find(':') == std::string::npos ? std::format("{}:{}", e.address, e.port) : std::format("[{}]:{}", e.address, e.port);
}

std::vector<std::string> server_arguments(const UpOptions& o) {
  std::vector<std::string> out{"server", "--data-dir", o.server.data_dir.string(), "--listen", text_of(o.server.listen),
                               "--node-name", o.node.node_name, "--pod-cidr", o.server.pod_cidr, "--service-cidr", o.server.service_cidr};
  out.insert(out.end(), {"--parent", std::to_string(::getpid())});
  if (!o.server.cluster_dns.empty()) out.insert(out.end(), {"--cluster-dns", o.server.cluster_dns});
  if (!o.server.token_file.empty()) out.insert(out.end(), {"--token-auth-file", o.server.token_file.string()});
  for (const auto& name : o.server.tls_names) out.insert(out.end(), {"--tls-name", name});
  if (o.server.verbose) out.emplace_back("--verbose");
  return out;
}

std::vector<std::string> node_arguments(const UpOptions& o) {
  const auto& n = o.node;
  std::vector<std::string> out{"node", "--data-dir", n.data_dir.string(), "--node-name", n.node_name,
                               "--overcommit", std::format("cpu={},memory={}", n.overcommit.cpu, n.overcommit.memory),
                               "--port", std::to_string(n.port), "--local-port", std::to_string(n.local_port), "--pods-max", std::to_string(n.pods_max),
                               "--pod-namespace", n.pod_namespace, "--cgroup", n.cgroup,
                               "--pod-cidr", n.pod_cidr, "--service-cidr", n.service_cidr, "--on-exit", "stop", "--parent", std::to_string(::getpid())};
  out.insert(out.end(), {"--lease-period", std::format("{}s", std::chrono::floor<std::chrono::seconds>(n.lease_period).count())});
  if (!n.registries.empty()) out.insert(out.end(), {"--registries", n.registries.string()});
  out.insert(out.end(), {"--cluster-domain", n.cluster_domain, "--resolv-conf", n.resolv_conf.string()});
  if (!n.cluster_dns.empty()) out.insert(out.end(), {"--cluster-dns", n.cluster_dns});
  if (!n.node_address.empty()) out.insert(out.end(), {"--node-address", n.node_address});
  if (n.accept_new_machine) out.emplace_back("--accept-new-machine");
  if (n.verbose) out.emplace_back("--verbose");
  return out;
}

// One supervised program. stop() must be awaited before it is destroyed.
class Supervised {
 public:
  // `give_up` is called, once, when the program exits with a failure of its own before it ever ran for a while.
  Supervised(rt::Loop& loop, std::string name, std::vector<std::string> arguments, std::function<void(const std::string&)> give_up)
      : name_(std::move(name)), arguments_(std::move(arguments)), give_up_(std::move(give_up)), tasks_(loop) {}
  void start() { tasks_.spawn(name_, run()); }

  // SIGTERM, and SIGKILL after `grace`.
  rt::Task<> stop(Duration grace) {
    stopping_ = true;
    if (child_) {
      [[maybe_unused]] const auto sent = child_->signal(SIGTERM);
      for (Duration waited{}; child_ && waited < grace; waited += 20ms) CO_TRY_OK(co_await rt::sleep_for(20ms));
      if (child_) {
        LOG_ERROR("did not stop in time, killed", {"program", name_}, {"grace", grace});
        [[maybe_unused]] const auto killed = child_->signal(SIGKILL);
        while (child_) CO_TRY_OK(co_await rt::sleep_for(20ms));
      }
    }
    co_return co_await tasks_.stop();
  }

 private:
  rt::Task<> run() {
    while (!stopping_) {
      policy_.started(clock_.instant());
      auto child = os::spawn({.program = "/proc/self/exe", .arguments = arguments_, .environment = os::current_environment(),
                              .fds = {{STDOUT_FILENO, STDOUT_FILENO}, {STDERR_FILENO, STDERR_FILENO}}, .group = os::ProcessGroup::Own});
      if (!child) {
        // Out of memory, of processes, of descriptors: that passes, and nobody else would try again.
        const Duration delay = std::max<Duration>(policy_.died(clock_.instant()), 100ms);
        LOG_ERROR("program not started, trying again", {"program", name_}, {"error", child.error()}, {"delay", delay});
        CO_TRY_OK(co_await rt::sleep_for(delay));
        continue;
      }
      child_ = std::move(*child);
      CO_TRY(const auto status, co_await ended(*child_));
      child_.reset();
      if (stopping_) break;
      if (status.code > 0 && !policy_.ever_ran(clock_.instant())) {
        // It has said why on standard error, and would say it again.
        give_up_(name_);
        co_return Result<>{};
      }
      const Duration delay = policy_.died(clock_.instant());
      LOG_WARN("program ended, starting it again", {"program", name_}, {"how", status.text()}, {"delay", delay});
      CO_TRY_OK(co_await rt::sleep_for(delay));
    }
    co_return Result<>{};
  }

  // Its end; looked for every second should its pidfd not tell.
  static rt::Task<os::ExitStatus> ended(const os::Child& child) {
    for (;;) {
      if (auto told = co_await rt::wait_readable(child.pidfd()); !told) CO_TRY_OK(co_await rt::sleep_for(1s));
      CO_TRY(const auto status, child.try_wait());
      if (status) co_return *status;
    }
  }

  std::string name_;
  std::vector<std::string> arguments_;
  std::function<void(const std::string&)> give_up_;
  SystemClock clock_;
  RestartPolicy policy_;
  std::optional<os::Child> child_;
  bool stopping_ = false;
  rt::TaskGroup tasks_;
};

// Those whom a former `up` started die with it, which takes them a moment.
Result<> wait_for_former(const DataLayout& layout) {
  constexpr int kTries = 250;
  for (const auto& path : {layout.server() / "lock", layout.node() / "agent.lock"})
    for (int i = 0; i < kTries && std::filesystem::exists(path); ++i) {
      const auto free = os::lock_file(path);
      if (free) break;
      if (free.error().code != Errc::AlreadyExists) return Fail(free.error());
      ::usleep(20'000);
    }
  return {};
}

rt::Task<> shut_down(rt::Loop& loop, Supervised& server, Supervised& node) {
  // The node waits for its pods' grace; the server only for its writer.
  if (auto done = co_await node.stop(60s); !done) LOG_WARN("stopping the node failed", {"error", done.error()});
  if (auto done = co_await server.stop(10s); !done) LOG_WARN("stopping the server failed", {"error", done.error()});
  loop.stop();
  co_return Result<>{};
}

int supervise(const UpOptions& options) {
  rt::Loop loop;
  std::string failed;
  std::function<void()> stop;
  const auto give_up = [&](const std::string& name) {
    failed = name;
    stop();
  };
  Supervised server(loop, "server", server_arguments(options), give_up), node(loop, "node", node_arguments(options), give_up);
  rt::TaskGroup shutdown(loop);
  stop = [&, asked = false]() mutable {
    if (std::exchange(asked, true)) return;
    LOG_INFO("stopping");
    shutdown.spawn("shutdown", shut_down(loop, server, node));
  };
  loop.on_signal({SIGTERM, SIGINT}, [&](int) { stop(); });
  server.start();
  node.start();
  loop.run();
  if (failed.empty()) return kExitOk;
  return fail({Errc::Unavailable, std::format("`skerry {}` could not start, so all of it was ended; its reason is above", failed)});
}

}  // namespace

int cmd_up(const UpOptions& given) {
  UpOptions options = given;
  if (::geteuid() != 0)
    return fail({Errc::Denied, "`skerry up` needs root: pods get namespaces, control groups and addresses. Run it with sudo, or try "
                               "`skerry run FILE.wasm`, which needs no privileges"});
  if (options.node.node_name.empty()) {
    auto name = host_name();
    if (!name) return fail(name.error());
    options.node.node_name = std::move(*name);
  }
  if (auto made = make_data_folder(options.server.data_dir); !made) return fail(made.error());
  auto lock = os::lock_file(options.server.data_dir / "up.lock");
  if (!lock) return fail(lock.error().code == Errc::AlreadyExists
                             ? Error{Errc::AlreadyExists, std::format("another `skerry up` runs on {}; stop it, or give --data-dir another folder",
                                                                      options.server.data_dir.string())}
                             : lock.error());

  if (auto alone = wait_for_former(DataLayout{options.server.data_dir}); !alone) return fail(alone.error());
  return supervise(options);
}

}  // namespace skerry::cli
