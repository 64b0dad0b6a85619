// SPDX-License-Identifier: Apache-2.0
// What skerry-registry is asked to do, and what it answers: JSON, between two programs of one build (docs/wire/registry.md).
// The answer comes from a process that has met hostile bytes: it is parsed as such.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "oci/auth.h"
#include "oci/image_store.h"
#include "oci/reference.h"

namespace skerry::oci {

// One place to ask, in order: mirrors first, the registry itself last.
struct RegistryEndpoint {
  std::string url{};  // "https://host[:port][/prefix]"; http only where it was configured
  std::string ca_pem{}, certificate_pem{}, key_pem{};  // "": the system's authorities, no certificate
  bool verify = true;
  std::vector<Credential> credentials{};  // tried in order; then without any
};

enum class RegistryTask : std::uint8_t { Pull, Push };

#if defined(__aarch64__)
inline constexpr std::string_view kArchitecture = "arm64";
#else
inline constexpr std::string_view kArchitecture = "amd64";
#endif

struct RegistryJob {
  RegistryTask task = RegistryTask::Pull;
  Reference reference{};
  std::vector<RegistryEndpoint> endpoints{};
  std::filesystem::path folder{};  // absolute: partial downloads, and what was pulled; of a push, unused
  std::string have{};              // Pull: the manifest that is on the disk; the same one again is not fetched
  int module_fd = -1;              // Push: the module's bytes
  std::string architecture{kArchitecture};  // of an ordinary image's variant
  std::uint64_t module_bytes_max = ImageStore::kModuleBytesMax, layer_bytes_max = 512ULL << 20, unpacked_bytes_max = 2ULL << 30;
  Duration stall_timeout = 30s;    // without a byte
};

namespace answer {
struct Progress {
  std::uint64_t bytes = 0, of = 0;
};
// The manifest is the one that was there.
struct Same {
  std::string manifest{};
};
struct Pulled {
  std::string file{};      // its name in the folder: the module, to be verified
  std::string module{};    // digest of its bytes
  std::string manifest{};  // digest of what the reference names: of the index, if it is one
  std::uint64_t fetched = 0;  // bytes that came over the line
  std::vector<std::string> arguments{}, env{};  // of the image's configuration, arguments after the entrypoint
};
struct Pushed {
  std::string manifest{};
};
}  // namespace answer
using RegistryAnswer = std::variant<answer::Progress, answer::Same, answer::Pulled, answer::Pushed, Error>;

std::string to_json(const RegistryJob&);
Result<RegistryJob> parse_job(std::string_view json);
std::string to_json(const RegistryAnswer&);  // one line, without its end
Result<RegistryAnswer> parse_answer(std::string_view line);

}  // namespace skerry::oci
