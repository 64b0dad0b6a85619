// SPDX-License-Identifier: Apache-2.0
#include "wasm/native_build.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <charconv>
#include <format>

#include "base/log.h"
#include "base/text.h"
#include "os/file.h"
#include "os/spawn.h"

namespace skerry::wasm {
namespace {

constexpr std::size_t kMessageMax = 4096;

// What the compiler said, bounded; read to its end so that it never blocks on the pipe.
std::string read_message(int fd) {
  std::string out;
  char buffer[1024];
  for (;;) {
    const auto n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    out.append(buffer, std::min(static_cast<std::size_t>(n), kMessageMax - out.size()));
  }
  return std::string(trim(out));
}

Result<> compile(const NativeBuild& build, const std::filesystem::path& wasm_path, const std::filesystem::path& native_path) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Fail(errno_error(errno, "make a pipe"));
  os::UniqueFd reader(ends[0]), writer(ends[1]);
  auto command = compile_command({.compiler = build.compiler.string(),
                                  .wasm_path = wasm_path.string(),
                                  .native_path = native_path.string(),
                                  .options = build.options,
                                  .memory_bytes_max = build.memory_bytes_max,
                                  .cpu_time_max = build.cpu_time_max});
  command.erase(command.begin());
  TRY(const auto child, os::spawn({.program = build.compiler, .arguments = std::move(command), .fds = {{writer.get(), STDERR_FILENO}}}));
  writer.reset();
  const auto message = read_message(reader.get());
  TRY(const auto status, child.wait());
  if (status.ok()) return {};
  const Errc code = status.code == kCompileExitRefused ? Errc::Invalid : status.code == kCompileExitLimit ? Errc::Exhausted : Errc::Internal;
  return Fail({code, std::format("compile {}: {}", wasm_path.string(), message.empty() ? "skerry-compile " + status.text() : message)});
}

}  // namespace

std::optional<Sha256> parse_sha256(std::string_view hex) {
  Sha256 hash{};
  if (hex.size() != 2 * hash.size()) return std::nullopt;
  for (std::size_t i = 0; i < hash.size(); ++i) {
    const auto* at = hex.data() + 2 * i;
    if (const auto [end, error] = std::from_chars(at, at + 2, hash[i], 16); error != std::errc{} || end != at + 2) return std::nullopt;
  }
  return hash;
}

bool is_native_used(const NativeBuild& build, const Sha256& module_sha256) {
  const auto fd = os::open_file(native_path(build, module_sha256), O_RDONLY);
  return fd && ::flock(fd->get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

void remove_native(const NativeBuild& build, const Sha256& module_sha256) {
  if (is_native_used(build, module_sha256)) return;
  const auto file = native_path(build, module_sha256);
  std::error_code ignored;
  std::filesystem::remove(file, ignored);
  std::filesystem::remove(file.string() + ".sha256", ignored);
}

std::filesystem::path native_path(const NativeBuild& build, const Sha256& module_sha256) {
  return build.folder / (cache_key(module_sha256, build.options) + ".so");
}

Result<NativeFile> ensure_native(const NativeBuild& build, const std::filesystem::path& wasm_path, const Sha256& module_sha256) {
  const auto path = native_path(build, module_sha256);
  auto cached = verify_native(path.string());
  if (cached) return cached;
  if (cached.error().code == Errc::Corrupt) LOG_WARN("native code is damaged, compiled again", {"path", path.string()});
  else if (cached.error().code != Errc::NotFound) return cached;
  TRY_OK(os::make_folders(build.folder));
  TRY_OK(compile(build, wasm_path, path));
  return verify_native(path.string());
}

}  // namespace skerry::wasm
