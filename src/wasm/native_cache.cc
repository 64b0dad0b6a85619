// SPDX-License-Identifier: Apache-2.0
#include "wasm/native_cache.h"

#include <fcntl.h>
#include <sha2.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <wasmedge/version.h>

#include <cerrno>
#include <cstdio>
#include <format>
#include <fstream>
#include <set>

#include "base/text.h"

namespace skerry::wasm {
namespace {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  int take() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// What native code for this very machine depends on: the architecture and every feature flag of the CPU.
std::string cpu_identity() {
  std::ifstream in("/proc/cpuinfo");
  std::string line, out;
  for (int lines = 0; lines < 200 && std::getline(in, line); ++lines) {
    if (line.starts_with("flags") || line.starts_with("Features") || line.starts_with("model name") || line.starts_with("CPU part")) {
      out += line;
      out += '\n';
    }
    if (line.empty() && !out.empty()) break;
  }
  return out;
}

std::string architecture() {
  utsname name{};
  uname(&name);
  return name.machine;
}

}  // namespace

Sha256 sha256(std::string_view bytes) {
  SHA2_CTX context;
  SHA256Init(&context);
  SHA256Update(&context, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  Sha256 out;
  SHA256Final(out.data(), &context);
  return out;
}

Result<Sha256> sha256_of_file(int fd) {
  SHA2_CTX context;
  SHA256Init(&context);
  std::array<std::uint8_t, 16384> buffer;
  for (off_t at = 0;;) {
    const ssize_t n = pread(fd, buffer.data(), buffer.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Fail(errno_error(errno, "read for hashing"));
    if (n == 0) break;
    SHA256Update(&context, buffer.data(), static_cast<std::size_t>(n));
    at += n;
  }
  Sha256 out;
  SHA256Final(out.data(), &context);
  return out;
}

std::string to_hex(const Sha256& hash) {
  return skerry::to_hex(std::string_view(reinterpret_cast<const char*>(hash.data()), hash.size()));
}

std::string_view to_string(Optimisation level) {
  constexpr std::string_view kNames[] = {"O0", "O1", "O2", "O3", "Os", "Oz"};
  return kNames[static_cast<std::size_t>(level)];
}

std::string cache_key(const Sha256& module_sha256, const CompileOptions& options) {
  const auto text = std::format("skerry-native-1\n{}\nwasmedge {}\n{}\n{}\n{}\n{}\n", to_hex(module_sha256), WASMEDGE_VERSION, architecture(),
                                options.generic_cpu ? std::string("generic\n") : cpu_identity(), to_string(options.optimisation),
                                options.interruptible ? "interruptible" : "plain");
  return to_hex(sha256(text));
}

std::vector<std::string> compile_command(const CompileRequest& request) {
  std::vector<std::string> out = {request.compiler,
                                  "--in",
                                  request.wasm_path,
                                  "--out",
                                  request.native_path,
                                  "--optimise",
                                  std::string(to_string(request.options.optimisation)),
                                  "--memory-max",
                                  std::to_string(request.memory_bytes_max),
                                  "--cpu-seconds",
                                  std::to_string(request.cpu_time_max.count())};
  if (request.options.generic_cpu) out.push_back("--generic-binary");
  if (!request.options.interruptible) out.push_back("--not-interruptible");
  if (request.user != 0) {
    out.push_back("--user");
    out.push_back(std::to_string(request.user));
  }
  return out;
}

Result<NativeFile> verify_native(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.get() < 0) return Fail(errno_error(errno, std::format("open native code {}", path)));
  const auto hash_path = path + ".sha256";
  Fd hash_fd(open(hash_path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (hash_fd.get() < 0) return Fail(errno_error(errno, std::format("open the hash of native code {}", hash_path)));
  char text[80];
  const auto n = read(hash_fd.get(), text, sizeof text);
  if (n < 0) return Fail(errno_error(errno, std::format("read {}", hash_path)));
  const auto expected = trim(std::string_view(text, static_cast<std::size_t>(n)));
  TRY(const auto hash, sha256_of_file(fd.get()));
  if (expected != to_hex(hash)) {
    return Fail(Error{Errc::Corrupt, std::format("native code {} does not match its hash: the file was damaged or changed. It is not loaded; "
                                                 "remove it and it is compiled again", path)});
  }
  return NativeFile{fd.take(), hash};
}

Result<> publish_native(const std::string& temporary, const std::string& path) {
  Fd fd(open(temporary.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.get() < 0) return Fail(errno_error(errno, std::format("open {}", temporary)));
  if (fsync(fd.get()) != 0) return Fail(errno_error(errno, std::format("sync {}", temporary)));
  TRY(const auto hash, sha256_of_file(fd.get()));
  const auto text = to_hex(hash) + "\n";
  const auto hash_path = path + ".sha256", hash_temporary = std::format("{}.{}", hash_path, getpid());
  Fd hash_fd(open(hash_temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (hash_fd.get() < 0) return Fail(errno_error(errno, std::format("create {}", hash_temporary)));
  if (write(hash_fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) || fsync(hash_fd.get()) != 0 ||
      std::rename(hash_temporary.c_str(), hash_path.c_str()) != 0 || std::rename(temporary.c_str(), path.c_str()) != 0) {
    const auto error = errno_error(errno, std::format("write {}", path));
    unlink(hash_temporary.c_str());
    return Fail(error);
  }
  Fd folder(open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0 || fsync(folder.get()) != 0) return Fail(errno_error(errno, std::format("sync the folder of {}", path)));
  return {};
}

}  // namespace skerry::wasm
