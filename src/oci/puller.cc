// SPDX-License-Identifier: Apache-2.0
#include "oci/puller.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <format>
#include <optional>

#include "os/fd.h"
#include "os/file.h"
#include "os/spawn.h"

namespace skerry::oci {
namespace {

constexpr std::size_t kLineBytesMax = 1 << 20;
constexpr int kModuleFd = 3;

// Ends with its owner, whatever happens: a task that is cancelled unwinds through it.
class Helper {
 public:
  explicit Helper(os::Child child) : child_(std::move(child)) {}
  ~Helper() {
    if (reaped_) return;
    [[maybe_unused]] const auto sent = child_.signal(SIGKILL);
    [[maybe_unused]] const auto status = child_.wait();
  }
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;
  Result<os::ExitStatus> wait() {
    reaped_ = true;
    return child_.wait();
  }

 private:
  os::Child child_;
  bool reaped_ = false;
};

Result<os::UniqueFd> as_file(const std::string& text) {
  os::UniqueFd fd(::memfd_create("skerry-registry-job", MFD_CLOEXEC));
  if (!fd) return Fail(errno_error(errno, "memfd_create"));
  TRY_OK(os::write_all(fd.get(), text));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return Fail(errno_error(errno, "rewind the job"));
  return fd;
}

}  // namespace

rt::Task<RegistryAnswer> run_registry(RegistryProgram program, RegistryJob job, std::function<void(const answer::Progress&)> progress) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) co_return Fail(errno_error(errno, "pipe"));
  os::UniqueFd out(ends[0]), in(ends[1]);
  // This end alone: a helper that is quicker than its reader waits.
  if (::fcntl(out.get(), F_SETFL, O_NONBLOCK) != 0) co_return Fail(errno_error(errno, "pipe"));
  std::vector<std::pair<int, int>> fds;
  if (job.module_fd >= 0) fds.emplace_back(job.module_fd, kModuleFd);
  job.module_fd = job.module_fd >= 0 ? kModuleFd : -1;
  CO_TRY(const auto text, as_file(to_json(job)));
  fds.insert(fds.end(), {{text.get(), STDIN_FILENO}, {in.get(), STDOUT_FILENO}, {STDERR_FILENO, STDERR_FILENO}});
  CO_TRY(auto child, os::spawn({.program = program.path, .arguments = {"--parent", std::to_string(::getpid())}, .environment = program.environment, .fds = std::move(fds)}));
  Helper helper(std::move(child));
  in.reset();
  std::string buffer;
  std::optional<RegistryAnswer> last;
  const auto deadline = std::chrono::steady_clock::now() + program.timeout;
  for (bool open = true; open;) {
    CO_TRY(const bool in_time, co_await rt::wait_readable_for(out.get(), deadline - std::chrono::steady_clock::now()));
    if (!in_time) co_return Fail({Errc::Timeout, std::format("{}: not done after {}", job.reference.text(), to_human(program.timeout))});
    std::array<char, 16 * 1024> bytes;
    const ssize_t n = ::read(out.get(), bytes.data(), bytes.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) open = false;
    else buffer.append(bytes.data(), static_cast<std::size_t>(n));
    for (std::size_t end = 0; (end = buffer.find('\n')) != std::string::npos; buffer.erase(0, end + 1)) {
      CO_TRY(auto answer, parse_answer(std::string_view(buffer).substr(0, end)));
      if (const auto* p = std::get_if<answer::Progress>(&answer)) {
        if (progress) progress(*p);
      } else {
        last = std::move(answer);
      }
    }
    if (buffer.size() > kLineBytesMax) co_return Fail({Errc::Corrupt, "the registry client answers without end"});
  }
  CO_TRY(const auto status, helper.wait());
  if (!last) co_return Fail({Errc::Internal, std::format("the registry client ended without an answer ({})", status.text())});
  if (auto* error = std::get_if<Error>(&*last)) co_return Fail(std::move(*error));
  co_return std::move(*last);
}

}  // namespace skerry::oci
