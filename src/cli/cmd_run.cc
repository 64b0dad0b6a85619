// SPDX-License-Identifier: Apache-2.0
// `skerry run FILE.wasm`: one module behind one listening socket, by the same keeper, template and sandbox as in a
// cluster, in a temporary folder that goes when the command ends. Without root the sandbox is hardened less (the keeper
// says so); what the guest prints goes to the terminal.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <array>
#include <csignal>
#include <cstdlib>
#include <format>
#include <system_error>

#include "base/log.h"
#include "base/text.h"
#include "cli/cmd.h"
#include "cli/layout.h"
#include "metrics/page.h"
#include "os/file.h"
#include "os/spawn.h"
#include "rt/loop.h"
#include "rt/task_group.h"
#include "sandbox/assignment.h"
#include "sandbox/keeper_client.h"
#include "wasm/inspect.h"
#include "wasm/native_build.h"

namespace skerry::cli {
namespace {

constexpr std::uint64_t kPodId = 1;
constexpr std::string_view kImageKey = "run";
struct Guest {
  std::string name;
  wasm::NativeFile native;
  sandbox::GuestKind kind;
};

// Native code outlives the command, so that the second run starts at once.
std::filesystem::path cache_folder() {
  if (::geteuid() == 0) return "/var/cache/skerry/native";
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') return std::filesystem::path(cache) / "skerry/native";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') return std::filesystem::path(home) / ".cache/skerry/native";
  return std::format("/tmp/skerry-native-{}", ::geteuid());
}

// The sentences of a pod's refusal name its annotations; here there are options.
Result<> refuse(const RunOptions& o, wasm::Kind kind) {
  const auto no = [&](std::string_view why) { return Fail({Errc::Invalid, std::format("{}: {}", o.file.string(), why)}); };
  if (o.handler.empty() && kind == wasm::Kind::Command)
    return no("a WASI command (it exports _start and no handle_request): if it is a CGI program, serve it with --handler wagi");
  if (o.handler == "wagi" && kind == wasm::Kind::HttpHandler) return no("an http-wasm handler (it exports handle_request): leave --handler wagi out");
  const auto handler = o.handler == "wagi" ? wasm::Handler::Wagi : o.handler == "http-wasm" ? wasm::Handler::HttpWasm : wasm::Handler::Detected;
  if (auto refused = wasm::refuse_kind(kind, handler); !refused) return Fail(refused.error().with(o.file.string()));
  return {};
}

Result<Guest> prepare(const RunOptions& o, const Programs& programs) {
  const auto bytes = os::read_small_file(o.file, wasm::kModuleBytesMax);
  if (!bytes && bytes.error().code == Errc::Exhausted)
    return Fail({Errc::Exhausted, std::format("{}: a module may have at most {} MiB; build it without debug information (strip, -s, wasm-opt -Oz)", o.file.string(), wasm::kModuleBytesMax >> 20)});
  if (!bytes) return Fail(bytes.error());
  auto inspection = wasm::inspect(*bytes);
  if (!inspection) return Fail(inspection.error().with(o.file.string()));
  TRY_OK(refuse(o, inspection->kind));
  const auto cache = cache_folder();
  if (auto made = os::make_folders(cache); !made)
    return Fail({made.error().code, std::format("cannot keep native code: {}; set XDG_CACHE_HOME to a folder that you may write", made.error().what)});
  TRY(const auto native, wasm::ensure_native({.compiler = programs.compiler, .folder = cache}, o.file, wasm::sha256(*bytes)));
  return Guest{o.file.filename().string(), native, inspection->kind == wasm::Kind::HttpHandler ? sandbox::GuestKind::HttpHandler : sandbox::GuestKind::Wagi};
}

std::string bind_advice(int error) {
  if (error == EACCES) return "ports below 1024 are root's; choose another with --port, or run it with sudo";
  if (error == EADDRNOTAVAIL) return "this machine has no such address; give --listen one of its own, or 0.0.0.0 for all of them";
  return std::generic_category().message(error);
}

Result<std::pair<os::UniqueFd, std::uint16_t>> listen_on(const Endpoint& endpoint) {
  const bool six = endpoint.address.find(':') != std::string::npos;
  sockaddr_storage address{};
  socklen_t length = 0;
  if (six) {
    auto& a = reinterpret_cast<sockaddr_in6&>(address);
    a.sin6_family = AF_INET6;
    a.sin6_port = htons(endpoint.port);
    inet_pton(AF_INET6, endpoint.address.c_str(), &a.sin6_addr);
    length = sizeof a;
  } else {
    auto& a = reinterpret_cast<sockaddr_in&>(address);
    a.sin_family = AF_INET;
    a.sin_port = htons(endpoint.port);
    inet_pton(AF_INET, endpoint.address.c_str(), &a.sin_addr);
    length = sizeof a;
  }
  os::UniqueFd fd(::socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return Fail(errno_error(errno, "make a socket"));
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0) {
    if (errno == EADDRINUSE)
      return Fail({Errc::AlreadyExists, std::format("port {} of {} is taken by another program; choose one with --port, or --port 0 for a free one", endpoint.port, endpoint.address)});
    return Fail({Errc::Denied, std::format("cannot listen on {} port {}: {}", endpoint.address, endpoint.port, bind_advice(errno))});
  }
  if (::listen(fd.get(), 4096) != 0) return Fail(errno_error(errno, "listen"));
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return Fail(errno_error(errno, "getsockname"));
  const auto port = six ? reinterpret_cast<sockaddr_in6&>(address).sin6_port : reinterpret_cast<sockaddr_in&>(address).sin_port;
  return std::pair{std::move(fd), ntohs(port)};
}

// The temporary folder of one run: the keeper's socket and state.
class Workspace {
 public:
  static Result<Workspace> create() {
    std::string name = "/tmp/skerry-run-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) return Fail(errno_error(errno, "make a folder in /tmp"));
    return Workspace(name);
  }
  Workspace(Workspace&& other) noexcept : folder_(std::exchange(other.folder_, {})) {}
  Workspace& operator=(Workspace&&) = delete;
  ~Workspace() {
    std::error_code ignored;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
  }
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path socket() const { return folder_ / "keeper.sock"; }

 private:
  explicit Workspace(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::filesystem::path folder_;
};

sandbox::Assignment assignment_of(const RunOptions& o, const Guest& guest, std::uint16_t port) {
  sandbox::Assignment a;
  a.pod_uid = "skerry-run";
  a.pod_namespace = "default";
  a.pod_name = a.container_name = guest.name;
  a.image_ref = o.file.string();
  a.kind = guest.kind;
  a.isolation = o.isolation == "request" ? sandbox::Isolation::PerRequest : sandbox::Isolation::Reused;
  for (const auto& variable : o.env) {
    const auto equals = variable.find('=');
    a.env.emplace_back(variable.substr(0, equals), variable.substr(equals + 1));
  }
  a.config = o.config;
  a.server_name = o.listen.address;
  a.server_port = port;
  a.request_deadline = o.deadline;
  a.idle_after = Duration::zero();  // nobody pays for it, and a developer looks for it with ps
  a.memory_bytes_max = o.memory_bytes_max;
  return a;
}

// Prints what the guest wrote: CRI lines ("<time> stdout F <text>") without their head.
rt::Task<> copy_log(int fd) {
  std::string buffered;
  std::array<char, 16384> chunk;
  for (;;) {
    CO_TRY_OK(co_await rt::wait_readable(fd));
    const auto n = ::read(fd, chunk.data(), chunk.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) co_return Result<>{};
    buffered.append(chunk.data(), static_cast<std::size_t>(n));
    for (auto end = buffered.find('\n'); end != std::string::npos; end = buffered.find('\n')) {
      const auto parts = split(std::string_view(buffered).substr(0, end), ' ');
      if (parts.size() >= 4) {
        const auto text = std::string_view(buffered).substr(0, end).substr(parts[0].size() + parts[1].size() + parts[2].size() + 3);
        std::FILE* to = parts[1] == "stderr" ? stderr : stdout;
        std::fprintf(to, "%.*s%s", static_cast<int>(text.size()), text.data(), parts[2] == "F" ? "\n" : "");
        std::fflush(to);
      }
      buffered.erase(0, end + 1);
    }
  }
}

class Run {
 public:
  Run(rt::Loop& loop, const RunOptions& o, const Programs& programs) : loop_(loop), options_(o), programs_(programs), tasks_(loop) {}

  Result<> start() {
    TRY(auto listener, listen_on(options_.listen));
    TRY(guest_, prepare(options_, programs_));
    const os::UniqueFd native(guest_->native.fd);
    TRY(auto workspace, Workspace::create());
    workspace_.emplace(std::move(workspace));
    TRY_OK(start_keeper());
    TRY_OK(connect());

    const auto assignment = assignment_of(options_, *guest_, listener.second);
    TRY(const int sealed, sandbox::seal_assignment(assignment));
    const os::UniqueFd sealed_owner(sealed);
    TRY(const int page, metrics::create_page(1));
    const os::UniqueFd page_owner(page);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return Fail(errno_error(errno, "make a pipe"));
    log_reader_.reset(ends[0]);
    const os::UniqueFd log_writer(ends[1]);

    const std::array image_fds{native.get()};
    TRY_OK(keeper_->send(sandbox::PutImage{.key = std::string(kImageKey), .name = guest_->name, .sha256 = guest_->native.hash}, image_fds));
    const std::array pod_fds{listener.first.get(), sealed, page, log_writer.get()};
    const sandbox::PodSpec spec{.id = kPodId, .image = std::string(kImageKey), .memory_bytes_max = options_.memory_bytes_max + kOverhead};
    TRY_OK(keeper_->send(sandbox::PutPod{.spec = spec}, pod_fds));
    tasks_.spawn("guest output", copy_log(log_reader_.get()));
    tasks_.spawn("keeper", follow_keeper());
    std::printf("serving %s on http://%s:%u/\n", options_.file.c_str(),
                options_.listen.address.find(':') == std::string::npos ? options_.listen.address.c_str() : ("[" + options_.listen.address + "]").c_str(),
                static_cast<unsigned>(listener.second));
    std::fflush(stdout);
    return {};
  }

  void stop() {
    if (std::exchange(stopping_, true)) return;
    if (auto sent = keeper_->send(sandbox::Shutdown{.grace_ms = 10'000}); !sent) end(sent.error());
  }

  rt::Task<> finish() { co_return co_await tasks_.stop(); }
  const std::optional<Error>& failure() const { return failure_; }

 private:
  static constexpr std::uint64_t kOverhead = 16u << 20;  // the sandbox's own pages beside the guest's memory

  Result<> start_keeper() {
    TRY(keeper_child_, os::spawn({.program = programs_.sandbox,
                                  .arguments = {"keeper", "--socket", workspace_->socket().string(), "--state", (workspace_->folder() / "state").string(),
                                                "--cgroup", std::format("skerry-run-{}", ::getpid()), "--parent", std::to_string(::getpid()), "--log-level", options_.verbose ? "debug" : "warn"},
                                  .environment = {},
                                  .fds = {{STDERR_FILENO, STDERR_FILENO}},
                                  .group = os::ProcessGroup::Own}));
    return {};
  }

  Result<> connect() {
    for (const auto until = clock_.instant() + 5s;;) {
      auto client = sandbox::KeeperClient::connect(workspace_->socket());
      if (client) {
        keeper_.emplace(std::move(*client));
        return {};
      }
      TRY(const auto ended, keeper_child_.try_wait());
      if (ended) return Fail({Errc::Internal, "the keeper ended at once: " + ended->text()});
      if (clock_.instant() > until) return Fail(client.error().with("the keeper does not answer"));
      ::usleep(1000);
    }
  }

  rt::Task<> follow_keeper() {
    for (;;) {
      CO_TRY_OK(co_await rt::wait_readable(keeper_->fd()));
      for (;;) {
        auto received = keeper_->receive();
        if (!received) {
          if (!stopping_) end(received.error().with("the keeper is gone"));
          else end(std::nullopt);
          co_return Result<>{};
        }
        if (!*received) break;
        handle((*received)->event);
      }
    }
  }

  void handle(const sandbox::Event& event) {
    if (const auto* failed = std::get_if<sandbox::ImageFailed>(&event)) {
      end(Error{Errc::Invalid, options_.file.string() + ": " + failed->text});
    } else if (const auto* refused = std::get_if<sandbox::Refused>(&event)) {
      end(Error{Errc::Invalid, "the keeper refused: " + refused->text});
    } else if (const auto* exited = std::get_if<sandbox::PodExited>(&event)) {
      if (exited->code != 0)
        LOG_WARN("guest ended", {"code", exited->code}, {"signal", exited->signal}, {"out_of_memory", exited->oom_killed}, {"requests_lost", exited->requests_lost},
                 {"reason", exited->text});
    } else if (const auto* held = std::get_if<sandbox::PodHeld>(&event)) {
      LOG_WARN("guest keeps ending, waiting before the next start", {"delay_ms", held->delay_ms}, {"failures", held->failures});
    }
  }

  void end(std::optional<Error> failure) {
    if (failure) failure_ = std::move(failure);
    loop_.post([this] { ended_.spawn("end", leave()); });
  }
  rt::Task<> leave() {
    CO_TRY_OK(co_await tasks_.stop());
    loop_.stop();
    co_return Result<>{};
  }

  rt::Loop& loop_;
  const RunOptions& options_;
  const Programs& programs_;
  SystemClock clock_;
  std::optional<Guest> guest_;
  std::optional<Workspace> workspace_;
  os::Child keeper_child_;
  std::optional<sandbox::KeeperClient> keeper_;
  os::UniqueFd log_reader_;
  std::optional<Error> failure_;
  bool stopping_ = false;
  rt::TaskGroup tasks_;
  rt::TaskGroup ended_{loop_};
};

}  // namespace

int cmd_run(const RunOptions& options) {
  set_log_level(options.verbose ? LogLevel::Debug : LogLevel::Warn);
  auto programs = find_programs();
  if (!programs) return fail(programs.error());
  rt::Loop loop;
  Run run(loop, options, *programs);
  if (auto started = run.start(); !started) {
    // What was started so far is cancelled on the loop.
    [[maybe_unused]] const auto finished = rt::Loop::run_one(run.finish());
    return fail(started.error());
  }
  loop.on_signal({SIGINT, SIGTERM}, [&run](int) { run.stop(); });
  loop.run();
  return run.failure() ? fail(*run.failure()) : kExitOk;
}

}  // namespace skerry::cli
