// SPDX-License-Identifier: Apache-2.0
#include "sandbox/protocol.h"

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstring>
#include <format>
#include <optional>
#include <type_traits>
#include <utility>

namespace skerry::sandbox {
namespace {

// Each message is {u8 type, fields in the order of visit()}. One description of the fields serves both directions.
class Writer {
 public:
  explicit Writer(std::uint8_t type) { number(type); }
  template <std::integral T>
  void number(T value) {
    const auto bits = static_cast<std::make_unsigned_t<T>>(value);
    for (std::size_t i = 0; i < sizeof(T); ++i) bytes_ += static_cast<char>((bits >> (8 * i)) & 0xff);
  }
  void flag(bool value) { number(static_cast<std::uint8_t>(value ? 1 : 0)); }
  template <class E>
    requires std::is_enum_v<E>
  void choice(E value, E) {
    number(std::to_underlying(value));
  }
  void text(std::string_view value, std::size_t max) {
    value = value.substr(0, max);
    number(static_cast<std::uint16_t>(value.size()));
    bytes_ += value;
  }
  void digest(const std::array<std::uint8_t, 32>& value) {
    for (const auto byte : value) bytes_ += static_cast<char>(byte);
  }
  template <class T, class F>
  void list(const std::vector<T>& values, std::size_t max, F each) {
    const std::size_t count = std::min(values.size(), max);
    number(static_cast<std::uint16_t>(count));
    for (std::size_t i = 0; i < count; ++i) each(values[i]);
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}
  template <std::integral T>
  void number(T& value) {
    std::make_unsigned_t<T> bits = 0;
    if (const auto* from = take(sizeof(T)))
      for (std::size_t i = 0; i < sizeof(T); ++i)
        bits = static_cast<std::make_unsigned_t<T>>(bits | (static_cast<std::make_unsigned_t<T>>(from[i]) << (8 * i)));
    value = static_cast<T>(bits);
  }
  void flag(bool& value) {
    std::uint8_t byte = 0;
    number(byte);
    if (byte > 1) failed_ = true;
    value = byte == 1;
  }
  template <class E>
    requires std::is_enum_v<E>
  void choice(E& value, E greatest) {
    std::underlying_type_t<E> bits{};
    number(bits);
    if (bits > std::to_underlying(greatest)) failed_ = true;
    else value = static_cast<E>(bits);
  }
  void text(std::string& value, std::size_t max) {
    std::uint16_t size = 0;
    number(size);
    if (size > max) failed_ = true;
    if (const auto* from = failed_ ? nullptr : take(size)) value.assign(reinterpret_cast<const char*>(from), size);
  }
  void digest(std::array<std::uint8_t, 32>& value) {
    if (const auto* from = take(value.size())) std::memcpy(value.data(), from, value.size());
  }
  template <class T, class F>
  void list(std::vector<T>& values, std::size_t max, F each) {
    std::uint16_t count = 0;
    number(count);
    if (count > max) failed_ = true;
    for (std::uint16_t i = 0; i < count && !failed_; ++i) each(values.emplace_back());
  }
  bool complete() const { return !failed_ && rest_.empty(); }

 private:
  const unsigned char* take(std::size_t count) {
    if (failed_ || rest_.size() < count) {
      failed_ = true;
      return nullptr;
    }
    const auto* from = reinterpret_cast<const unsigned char*>(rest_.data());
    rest_ = rest_.subspan(count);
    return from;
  }
  std::span<const std::byte> rest_;
  bool failed_ = false;
};

// M is the message, const for a Writer.
template <class C, class M>
void visit_spec(C& c, M& m) {
  c.number(m.id), c.text(m.image, kImageKeyMax), c.number(m.memory_bytes_max), c.number(m.cpu_millis_max),
      c.number(m.cpu_millis_requested), c.number(m.workers);
}
template <class C, class M>
void visit_row(C& c, M& m) {
  c.number(m.pid), c.number(m.worker), c.number(m.slot);
}
template <class C, class M>
void visit(C& c, M& m) {
  using T = std::remove_const_t<M>;
  if constexpr (std::same_as<T, Hello>) c.number(m.version);
  else if constexpr (std::same_as<T, PutImage>) c.text(m.key, kImageKeyMax), c.text(m.name, kImageNameMax), c.digest(m.sha256);
  else if constexpr (std::same_as<T, DropImage>) c.text(m.key, kImageKeyMax);
  else if constexpr (std::same_as<T, PutPod>) visit_spec(c, m.spec);
  else if constexpr (std::same_as<T, StopPod>) c.number(m.id), c.number(m.grace_ms);
  else if constexpr (std::same_as<T, Shutdown>) c.number(m.grace_ms);
  else if constexpr (std::same_as<T, Welcome>)
    c.number(m.version), c.number(m.pid), c.choice(m.hardening, Hardening::Full), c.choice(m.cgroups, CgroupKind::V2), c.number(m.pods),
        c.number(m.found);
  else if constexpr (std::same_as<T, ImageReady>) c.text(m.key, kImageKeyMax), c.number(m.template_pid), c.number(m.load_us);
  else if constexpr (std::same_as<T, ImageFailed>) c.text(m.key, kImageKeyMax), c.text(m.text, kKeeperTextMax);
  else if constexpr (std::same_as<T, PodAwake>) c.number(m.id), visit_row(c, m.row), c.number(m.cold_start_us);
  else if constexpr (std::same_as<T, PodExited>)
    c.number(m.id), visit_row(c, m.row), c.number(m.code), c.number(m.signal), c.flag(m.oom_killed), c.number(m.requests_lost), c.number(m.connections_lost),
        c.text(m.text, kKeeperTextMax);
  else if constexpr (std::same_as<T, PodHeld>) c.number(m.id), c.number(m.delay_ms), c.number(m.failures);
  else if constexpr (std::same_as<T, Refused>) c.number(m.command), c.number(m.id), c.text(m.text, kKeeperTextMax);
  else if constexpr (std::same_as<T, DumpedImage>) c.text(m.key, kImageKeyMax), c.flag(m.ready);
  else if constexpr (std::same_as<T, DumpedPod>) {
    visit_spec(c, m.spec), c.choice(m.state, PodState::Stopped);
    c.list(m.workers, kWorkersMax, [&c](auto& row) { visit_row(c, row); });
  } else if constexpr (std::same_as<T, SandboxLost>) c.number(m.id), c.number(m.requests_lost), c.number(m.connections_lost);
  else if constexpr (std::same_as<T, FoundPod>) {
    c.number(m.id);
    c.list(m.workers, kWorkersMax, [&c](auto& row) { visit_row(c, row); });
  } else if constexpr (requires { m.id; }) c.number(m.id);  // DropPod, Relog, PodIdle, PodStopped
  // Dump, Refilled, DumpEnd have no fields.
}

template <class V>
std::string encode_any(const V& message, std::uint8_t first_type) {
  Writer writer(static_cast<std::uint8_t>(first_type + message.index()));
  std::visit([&writer](const auto& m) { visit(writer, m); }, message);
  return writer.take();
}

template <class V, std::size_t I = 0>
std::optional<V> decode_any(std::size_t index, Reader& reader) {
  if constexpr (I == std::variant_size_v<V>) return std::nullopt;
  else {
    if (index != I) return decode_any<V, I + 1>(index, reader);
    std::variant_alternative_t<I, V> message;
    visit(reader, message);
    if (!reader.complete()) return std::nullopt;
    return V(std::move(message));
  }
}

template <class V>
Result<V> decode_typed(std::span<const std::byte> bytes, std::uint8_t first_type, std::string_view from) {
  if (bytes.empty() || bytes.size() > kKeeperMessageMax)
    return Fail({Errc::Corrupt, std::format("message from the {}: {} bytes; 1 to {} are allowed", from, bytes.size(), kKeeperMessageMax)});
  const auto type = std::to_integer<std::uint8_t>(bytes[0]);
  Reader reader(bytes.subspan(1));
  if (type >= first_type)
    if (auto message = decode_any<V>(static_cast<std::size_t>(type - first_type), reader)) return std::move(*message);
  return Fail({Errc::Corrupt, std::format("message from the {}: type {} of {} bytes is unknown or malformed; agent and keeper must be of "
                                          "the same version", from, type, bytes.size())});
}

constexpr std::uint8_t kFirstCommand = 1, kFirstEvent = 129;

Result<> check_spec(const PodSpec& spec) {
  const auto refuse = [&](std::string_view what) -> Result<> {
    return Fail({Errc::Invalid, std::format("pod {}: {}", spec.id, what)});
  };
  if (spec.image.empty()) return refuse("image key is empty");
  if (spec.workers < 1 || spec.workers > kWorkersMax) return refuse(std::format("workers {}: 1 to {} are allowed", spec.workers, kWorkersMax));
  if (spec.memory_bytes_max != 0 && spec.memory_bytes_max / spec.workers < kPodMemoryMin)
    return refuse(std::format("memory limit {} bytes for {} workers: each needs at least {} bytes", spec.memory_bytes_max, spec.workers,
                              kPodMemoryMin));
  if (spec.memory_bytes_max > (std::uint64_t{1} << 50)) return refuse("memory limit above 1 PiB");
  if (spec.cpu_millis_max > 1'000'000 || spec.cpu_millis_requested > 1'000'000) return refuse("cpu above 1000 cores");
  return {};
}

}  // namespace

std::string encode(const Command& message) { return encode_any(message, kFirstCommand); }
std::string encode(const Event& message) { return encode_any(message, kFirstEvent); }

Result<Command> decode_command(std::span<const std::byte> bytes, std::size_t fds) {
  TRY(auto command, decode_typed<Command>(bytes, kFirstCommand, "agent"));
  std::size_t fds_min = 0, fds_max = 0;
  if (std::holds_alternative<PutImage>(command) || std::holds_alternative<Relog>(command)) fds_min = fds_max = 1;
  if (const auto* put = std::get_if<PutPod>(&command)) {
    fds_min = 3, fds_max = 4;
    TRY_OK(check_spec(put->spec));
  }
  if (const auto* put = std::get_if<PutImage>(&command); put != nullptr && put->key.empty())
    return Fail({Errc::Invalid, "put image: the key is empty"});
  if (fds < fds_min || fds > fds_max)
    return Fail({Errc::Invalid, std::format("command {}: {} descriptors came, {} to {} are needed", command.index() + kFirstCommand, fds,
                                            fds_min, fds_max)});
  return command;
}

Result<Event> decode_event(std::span<const std::byte> bytes, std::size_t fds) {
  TRY(auto event, decode_typed<Event>(bytes, kFirstEvent, "keeper"));
  std::size_t fds_min = 0, fds_max = 0;
  if (std::holds_alternative<DumpedPod>(event)) fds_min = 3, fds_max = 4;
  if (std::holds_alternative<FoundPod>(event)) fds_min = fds_max = 3;
  if (fds < fds_min || fds > fds_max)
    return Fail({Errc::Invalid, std::format("event {}: {} descriptors came with it", event.index() + kFirstEvent, fds)});
  return event;
}

}  // namespace skerry::sandbox
