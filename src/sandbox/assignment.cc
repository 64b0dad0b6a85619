// SPDX-License-Identifier: Apache-2.0
#include "sandbox/assignment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <format>
#include <limits>

namespace skerry::sandbox {
namespace {

// docs/wire/assignment.md. Little-endian, so that the bytes mean the same on every machine we build for.
constexpr std::string_view kMagic = "SKRYASG1";
constexpr int kSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

class Writer {
 public:
  void bytes(std::string_view v) {
    number(static_cast<std::uint32_t>(v.size()));
    out_.append(v);
  }
  template <class T>
  void number(T v) {
    auto u = static_cast<std::make_unsigned_t<T>>(v);
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      out_.push_back(static_cast<char>(u & 0xff));
      if constexpr (sizeof(T) > 1) u = static_cast<decltype(u)>(u >> 8);
    }
  }
  void duration(Duration v) { number(static_cast<std::int64_t>(v.count())); }
  std::string take() { return std::move(out_); }

 private:
  std::string out_{kMagic};
};

class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}
  bool ok() const { return ok_; }
  bool at_end() const { return in_.empty(); }
  std::string_view raw(std::size_t n) {
    if (n > in_.size()) {
      ok_ = false;
      in_ = {};
      return {};
    }
    const auto out = in_.substr(0, n);
    in_.remove_prefix(n);
    return out;
  }
  std::string bytes() { return std::string(raw(number<std::uint32_t>())); }
  template <class T>
  T number() {
    const auto in = raw(sizeof(T));
    std::make_unsigned_t<T> v{};
    for (std::size_t i = in.size(); i-- > 0;) {
      v = static_cast<decltype(v)>((static_cast<std::uint64_t>(v) << 8) | static_cast<unsigned char>(in[i]));
    }
    return static_cast<T>(v);
  }
  Duration duration() { return Duration(number<std::int64_t>()); }

 private:
  std::string_view in_;
  bool ok_ = true;
};

Error invalid(std::string_view field, std::string_view why) {
  return {Errc::Invalid, std::format("assignment: {}: {}", field, why)};
}
bool has_nul(std::string_view v) { return v.find('\0') != std::string_view::npos; }

Result<> check(const Assignment& a) {
  for (const auto& [field, value] : {std::pair{"pod uid", &a.pod_uid}, {"namespace", &a.pod_namespace}, {"pod name", &a.pod_name},
                                     {"container name", &a.container_name}, {"image", &a.image_ref}, {"server name", &a.server_name}}) {
    if (value->size() > Assignment::kNameMax) return Fail(invalid(field, std::format("longer than {} bytes", Assignment::kNameMax)));
    if (has_nul(*value)) return Fail(invalid(field, "contains a NUL byte"));
  }
  if (a.kind != GuestKind::HttpHandler && a.kind != GuestKind::Wagi) return Fail(invalid("guest kind", "unknown"));
  if (a.isolation != Isolation::Reused && a.isolation != Isolation::PerRequest) return Fail(invalid("isolation", "unknown"));
  if (a.env.size() > Assignment::kEnvMax) return Fail(invalid("env", std::format("more than {} variables", Assignment::kEnvMax)));
  for (const auto& [name, value] : a.env) {
    if (name.empty() || name.find('=') != std::string::npos || has_nul(name)) {
      return Fail(invalid("env", std::format("'{}' is no variable name: it must not be empty nor contain '=' or NUL", name)));
    }
    if (has_nul(value)) return Fail(invalid("env", std::format("the value of {} contains a NUL byte", name)));
  }
  if (a.args.size() > Assignment::kArgsMax) return Fail(invalid("args", std::format("more than {}", Assignment::kArgsMax)));
  for (const auto& arg : a.args) {
    if (has_nul(arg)) return Fail(invalid("args", "an argument contains a NUL byte"));
  }
  if (a.config.size() > Assignment::kConfigMax) return Fail(invalid("config", std::format("larger than {} bytes", Assignment::kConfigMax)));
  for (const auto& [field, value] : {std::pair{"request deadline", a.request_deadline}, {"start deadline", a.start_deadline},
                                     {"idle after", a.idle_after}, {"header timeout", a.header_timeout}, {"body timeout", a.body_timeout},
                                     {"keep-alive timeout", a.keep_alive_timeout}, {"write timeout", a.write_timeout}}) {
    if (value < Duration::zero() || value > std::chrono::hours(24 * 365)) return Fail(invalid(field, "must be between 0 and a year"));
  }
  for (const auto& [field, value] : {std::pair{"header timeout", a.header_timeout}, {"body timeout", a.body_timeout},
                                     {"keep-alive timeout", a.keep_alive_timeout}, {"write timeout", a.write_timeout},
                                     {"start deadline", a.start_deadline}}) {
    if (value < 1ms) return Fail(invalid(field, "must be at least 1ms"));
  }
  if (a.workers == 0 || a.workers > 64) return Fail(invalid("workers", "must be 1 to 64"));
  if (a.memory_bytes_max < 64u << 10 || a.memory_bytes_max > 4ull << 30) return Fail(invalid("memory limit", "must be 64Ki to 4Gi"));
  if (a.stack_bytes_max < 128u << 10 || a.stack_bytes_max > 64u << 20) return Fail(invalid("stack limit", "must be 128Ki to 64Mi"));
  if (a.body_bytes_max > 1u << 30) return Fail(invalid("body limit", "must be at most 1Gi"));
  if (a.response_bytes_max > 1u << 30) return Fail(invalid("response limit", "must be at most 1Gi"));
  if (a.header_bytes_max < 256 || a.header_bytes_max > 64u << 10) return Fail(invalid("header limit", "must be 256 to 64Ki bytes"));
  if (a.header_count_max == 0 || a.header_count_max > 1000) return Fail(invalid("header count", "must be 1 to 1000"));
  if (a.connections_max == 0 || a.connections_max > 1u << 20) return Fail(invalid("connections", "must be 1 to 1048576"));
  return {};
}

}  // namespace

Result<std::string> encode(const Assignment& a) {
  TRY_OK(check(a));
  Writer w;
  for (const auto* text : {&a.pod_uid, &a.pod_namespace, &a.pod_name, &a.container_name, &a.image_ref, &a.server_name}) w.bytes(*text);
  w.number(static_cast<std::uint8_t>(a.kind));
  w.number(static_cast<std::uint8_t>(a.isolation));
  w.number(static_cast<std::uint32_t>(a.env.size()));
  for (const auto& [name, value] : a.env) {
    w.bytes(name);
    w.bytes(value);
  }
  w.number(static_cast<std::uint32_t>(a.args.size()));
  for (const auto& arg : a.args) w.bytes(arg);
  w.bytes(a.config);
  w.number(a.server_port);
  w.number(a.workers);
  for (const auto d : {a.request_deadline, a.start_deadline, a.idle_after, a.header_timeout, a.body_timeout, a.keep_alive_timeout,
                       a.write_timeout}) {
    w.duration(d);
  }
  w.number(a.memory_bytes_max);
  w.number(a.stack_bytes_max);
  w.number(a.body_bytes_max);
  w.number(a.response_bytes_max);
  w.number(a.header_bytes_max);
  w.number(a.header_count_max);
  w.number(a.connections_max);
  auto out = w.take();
  if (out.size() > Assignment::kEncodedMax) {
    return Fail(invalid("size", std::format("{} bytes with env, args and config; at most {}", out.size(), Assignment::kEncodedMax)));
  }
  return out;
}

Result<Assignment> decode(std::string_view bytes) {
  const auto corrupt = [](std::string_view why) { return Fail(Error{Errc::Corrupt, std::format("assignment: {}", why)}); };
  if (bytes.size() > Assignment::kEncodedMax) return corrupt("too large");
  if (!bytes.starts_with(kMagic)) return corrupt("not an assignment of this version (agent and sandbox must be of one build)");
  Reader r(bytes.substr(kMagic.size()));
  Assignment a;
  for (auto* text : {&a.pod_uid, &a.pod_namespace, &a.pod_name, &a.container_name, &a.image_ref, &a.server_name}) *text = r.bytes();
  a.kind = static_cast<GuestKind>(r.number<std::uint8_t>());
  a.isolation = static_cast<Isolation>(r.number<std::uint8_t>());
  const auto env = r.number<std::uint32_t>();
  if (env > Assignment::kEnvMax) return corrupt("too many variables");
  for (std::uint32_t i = 0; i < env && r.ok(); ++i) {
    auto name = r.bytes();
    auto value = r.bytes();
    a.env.emplace_back(std::move(name), std::move(value));
  }
  const auto args = r.number<std::uint32_t>();
  if (args > Assignment::kArgsMax) return corrupt("too many arguments");
  for (std::uint32_t i = 0; i < args && r.ok(); ++i) a.args.push_back(r.bytes());
  a.config = r.bytes();
  a.server_port = r.number<std::uint16_t>();
  a.workers = r.number<std::uint16_t>();
  for (auto* d : {&a.request_deadline, &a.start_deadline, &a.idle_after, &a.header_timeout, &a.body_timeout, &a.keep_alive_timeout,
                  &a.write_timeout}) {
    *d = r.duration();
  }
  a.memory_bytes_max = r.number<std::uint64_t>();
  a.stack_bytes_max = r.number<std::uint32_t>();
  a.body_bytes_max = r.number<std::uint64_t>();
  a.response_bytes_max = r.number<std::uint64_t>();
  a.header_bytes_max = r.number<std::uint32_t>();
  a.header_count_max = r.number<std::uint16_t>();
  a.connections_max = r.number<std::uint32_t>();
  if (!r.ok()) return corrupt("truncated");
  if (!r.at_end()) return corrupt("bytes after the end");
  TRY_OK(check(a));
  return a;
}

Result<int> seal_assignment(const Assignment& a) {
  TRY(const auto bytes, encode(a));
  const int fd = memfd_create("skerry-assignment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Fail(errno_error(errno, "memfd_create assignment"));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0) {
      const auto error = errno_error(errno, "write assignment");
      close(fd);
      return Fail(error);
    }
    done += static_cast<std::size_t>(n);
  }
  if (fcntl(fd, F_ADD_SEALS, kSeals) != 0) {
    const auto error = errno_error(errno, "seal assignment");
    close(fd);
    return Fail(error);
  }
  return fd;
}

Result<Assignment> read_assignment(int fd) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) return Fail(errno_error(errno, "read seals of the assignment"));
  if ((seals & kSeals) != kSeals) return Fail(Error{Errc::Corrupt, "assignment: the descriptor is not sealed; it must be made by seal_assignment"});
  struct stat st{};
  if (fstat(fd, &st) != 0) return Fail(errno_error(errno, "stat assignment"));
  if (st.st_size < 0 || static_cast<std::uint64_t>(st.st_size) > Assignment::kEncodedMax) {
    return Fail(Error{Errc::Corrupt, std::format("assignment: {} bytes, at most {}", st.st_size, Assignment::kEncodedMax)});
  }
  std::string bytes(static_cast<std::size_t>(st.st_size), '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (n <= 0) return Fail(errno_error(n == 0 ? EIO : errno, "read assignment"));
    done += static_cast<std::size_t>(n);
  }
  return decode(bytes);
}

}  // namespace skerry::sandbox
