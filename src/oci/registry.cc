// SPDX-License-Identifier: Apache-2.0
#include "oci/registry.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <format>
#include <numeric>

#include "oci/archive.h"
#include "oci/digest.h"
#include "oci/transfer.h"
#include "os/file.h"

namespace skerry::oci {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kWasmMagic("\0asm", 4);
constexpr std::string_view kAccept =
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json";
constexpr std::string_view kEmptyConfig = "{}";

std::string in_folder(const std::string& digest) { return digest.substr(digest.find(':') + 1); }

// Tells at most ten times a second, and at the end.
class Teller {
 public:
  explicit Teller(const OnProgress& tell) : tell_(tell) {}
  void expect(std::uint64_t bytes) { at_.of += bytes; }
  void came(std::uint64_t bytes) {
    total_ += bytes;
    at_.bytes = std::min(total_, at_.of);  // a manifest and a configuration come along
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(100) && at_.bytes < at_.of) return;
    last_ = now;
    if (tell_) tell_(at_);
  }
  std::uint64_t bytes() const { return total_; }

 private:
  const OnProgress& tell_;
  answer::Progress at_;
  std::uint64_t total_ = 0;
  std::chrono::steady_clock::time_point last_{};
};

Result<bool> begins_like_a_module(const fs::path& file) {
  TRY(const auto fd, os::open_file(file, O_RDONLY));
  std::array<char, 4> head{};
  const ssize_t n = ::pread(fd.get(), head.data(), head.size(), 0);
  if (n < 0) return Fail(errno_error(errno, "read a layer"));
  return std::string_view(head.data(), static_cast<std::size_t>(n)) == kWasmMagic;
}

Result<std::string> digest_of_file(const fs::path& file) {
  TRY(const auto fd, os::open_file(file, O_RDONLY));
  Digester digester;
  std::array<char, 64 * 1024> buffer;
  off_t at = 0;
  for (ssize_t n = 0; (n = ::pread(fd.get(), buffer.data(), buffer.size(), at)) > 0; at += n) digester.add({buffer.data(), static_cast<std::size_t>(n)});
  return digester.finish();
}

void keep_only(const fs::path& folder, std::string_view name) {
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (at->path().filename() != name) ::unlink(at->path().c_str());
}

struct Named {
  Manifest manifest{};
  std::string digest{};  // of what the reference names
  bool same = false;
};

// The manifest's bytes are what their digest says: of the reference, of the index, or, by tag, what they hash to.
Result<Named> find_manifest(Transfer& transfer, const RegistryJob& job) {
  const Reference& r = job.reference;
  const auto path = [&](std::string_view name) { return std::format("/v2/{}/manifests/{}", r.repository, name); };
  std::string wanted = r.digest;
  if (wanted.empty() && !job.have.empty()) {
    // An unchanged tag costs a few hundred bytes. Who does not tell the digest, or refuses, which takes a body to be believed,
    // is asked for the manifest itself.
    const auto head = transfer.head(path(r.tag), kAccept);
    if (head && head->digest == job.have) return Named{.digest = job.have, .same = true};
    if (!head && head.error().code != Errc::NotFound && head.error().code != Errc::Denied) return Fail(head.error());
  }
  Named out;
  std::string name = wanted.empty() ? r.tag : wanted;
  for (int depth = 0; depth < 3; ++depth) {
    TRY(const auto answer, transfer.get(path(name), kAccept));
    const std::string digest = digest_of(answer.body);
    if (!wanted.empty() && digest != wanted) return Fail({Errc::Corrupt, std::format("the registry answers with another manifest than {}", wanted)});
    if (out.digest.empty()) out.digest = digest;
    if (out.digest == job.have && !job.have.empty()) return Named{.digest = out.digest, .same = true};
    TRY(auto document, parse_manifest(answer.media_type, answer.body));
    if (auto* manifest = std::get_if<Manifest>(&document)) {
      out.manifest = std::move(*manifest);
      return out;
    }
    TRY(const auto chosen, choose(std::get<Index>(document), job.architecture));
    wanted = name = chosen.digest;
  }
  return Fail({Errc::Invalid, "the image's index leads to another index, which leads to another"});
}

// The image's entrypoint among the files of its layers.
Result<std::string> find_module(const RegistryJob& job, const std::vector<fs::path>& layers, const ImageConfig& config, answer::Pulled& out) {
  std::vector<std::string> words = config.entrypoint;
  words.insert(words.end(), config.command.begin(), config.command.end());
  if (words.empty()) return Fail({Errc::Unsupported, "the image has neither a Wasm layer nor an entrypoint; push a Wasm module as an artifact (layer application/wasm), or give the image an ENTRYPOINT that is one"});
  std::string path = words[0];
  if (!path.starts_with('/')) path = config.working_folder + "/" + path;
  TRY(const auto tree, read_layers(layers, job.unpacked_bytes_max));
  auto place = tree.find(path);
  if (!place) return Fail({Errc::Unsupported, std::format("the image's entrypoint cannot be used: {}", place.error().what)});
  if (place->size > job.module_bytes_max) return Fail({Errc::Exhausted, std::format("the image's module {} is larger than {} MiB", path, job.module_bytes_max >> 20)});
  const std::string name = "module-" + in_folder(out.manifest);
  TRY_OK(extract(layers[place->layer], *place, job.folder / name, job.module_bytes_max));
  TRY(const bool module, begins_like_a_module(job.folder / name));
  if (!module) return Fail({Errc::Unsupported, std::format("the image's entrypoint {} is no WebAssembly module, and containers are not served here", path.substr(0, 200))});
  out.arguments.assign(words.begin() + 1, words.end());
  return name;
}

Result<RegistryAnswer> pull_from(const RegistryEndpoint& endpoint, const RegistryJob& job, Teller& teller) {
  Transfer transfer(endpoint, job.reference.repository, "pull", job.stall_timeout, [&](std::uint64_t bytes) { teller.came(bytes); });
  TRY(const auto named, find_manifest(transfer, job));
  if (named.same) return RegistryAnswer(answer::Same{named.digest});
  const Manifest& manifest = named.manifest;
  TRY_OK(check_layers(manifest));
  const auto blob = [&](const Descriptor& d) { return std::format("/v2/{}/blobs/{}", job.reference.repository, d.digest); };
  const auto is_wasm = [](const Descriptor& d) { return d.media_type.contains("wasm"); };
  std::vector<Descriptor> wanted;
  std::ranges::copy_if(manifest.layers, std::back_inserter(wanted), is_wasm);
  if (wanted.empty()) wanted = manifest.layers;  // by its bytes, then
  std::uint64_t total = 0;
  for (const auto& layer : wanted) {
    total += layer.size;
    if (layer.size > job.layer_bytes_max || total > job.layer_bytes_max) return Fail({Errc::Exhausted, std::format("the image's layers have more than {} MiB", job.layer_bytes_max >> 20)});
  }
  teller.expect(total);
  std::vector<fs::path> files;
  std::vector<std::size_t> modules;
  for (const auto& layer : wanted) {
    const fs::path file = job.folder / in_folder(layer.digest);
    TRY_OK(transfer.download(blob(layer), layer, file));
    TRY(const bool module, begins_like_a_module(file));
    if (module) modules.push_back(files.size());
    files.push_back(file);
  }
  answer::Pulled out{.manifest = named.digest, .fetched = teller.bytes()};
  if (modules.size() > 1) return Fail({Errc::Unsupported, std::format("the image has {} Wasm modules; push one alone", modules.size())});
  ImageConfig config;
  if (manifest.config.media_type.ends_with("image.config.v1+json") || manifest.config.media_type == "application/vnd.docker.container.image.v1+json") {
    if (manifest.config.size > kManifestBytesMax) return Fail({Errc::Exhausted, "the image's configuration is too large"});
    const fs::path file = job.folder / in_folder(manifest.config.digest);
    TRY_OK(transfer.download(blob(manifest.config), manifest.config, file));
    TRY(const auto text, os::read_small_file(file, kManifestBytesMax));
    TRY(config, parse_config(text));
  }
  out.env = config.env;
  if (modules.size() == 1) {
    const auto& module = wanted[modules[0]];
    if (module.size > job.module_bytes_max) return Fail({Errc::Exhausted, std::format("the image's module is larger than {} MiB", job.module_bytes_max >> 20)});
    out.file = in_folder(module.digest);
    out.module = module.digest;
    if (!config.entrypoint.empty()) out.arguments.assign(config.entrypoint.begin() + 1, config.entrypoint.end());
    out.arguments.insert(out.arguments.end(), config.command.begin(), config.command.end());
  } else {
    TRY(out.file, find_module(job, files, config, out));
    TRY(out.module, digest_of_file(job.folder / out.file));
  }
  return RegistryAnswer(std::move(out));
}

std::string path_of(std::string_view location, const RegistryEndpoint& endpoint) {
  // A registry may answer with its own host or with a path.
  return location.starts_with(endpoint.url) ? std::string(location.substr(endpoint.url.size())) : std::string(location);
}

Result<> put_blob(Transfer& transfer, const RegistryJob& job, const RegistryEndpoint& endpoint, std::string_view bytes, const std::string& digest) {
  const auto there = transfer.head(std::format("/v2/{}/blobs/{}", job.reference.repository, digest));
  if (there) return {};
  if (there.error().code != Errc::NotFound) return Fail(there.error());
  TRY(const auto upload, transfer.send("POST", std::format("/v2/{}/blobs/uploads/", job.reference.repository), "", ""));
  if (upload.location.empty()) return Fail({Errc::Unavailable, "the registry does not say where to upload to"});
  const std::string where = path_of(upload.location, endpoint);
  if (!where.starts_with('/')) return Fail({Errc::Denied, "the registry sends the upload to another host, which is not followed"});
  TRY_OK(transfer.send("PUT", std::format("{}{}digest={}", where, where.contains('?') ? "&" : "?", digest), "application/octet-stream", bytes));
  return {};
}

}  // namespace

Result<RegistryAnswer> pull(const RegistryJob& job, const OnProgress& progress) {
  std::optional<Error> last;
  for (const auto& endpoint : job.endpoints) {
    Teller teller(progress);
    auto done = pull_from(endpoint, job, teller);
    if (done) {
      const auto* const pulled = std::get_if<answer::Pulled>(&*done);
      keep_only(job.folder, pulled != nullptr ? pulled->file : "");
      return done;
    }
    Error error = done.error();
    const Errc code = error.code;
    if (last) error.what += std::format("; and before that, {}", last->what);
    last = std::move(error);
    const bool elsewhere = code == Errc::NotFound || code == Errc::Unavailable || code == Errc::Timeout || code == Errc::Denied || code == Errc::Corrupt;
    if (!elsewhere) break;
  }
  // A line that broke is gone on with; an image that cannot be used only takes the disk.
  const bool useless = last->code == Errc::Unsupported || last->code == Errc::Invalid || last->code == Errc::Exhausted || last->code == Errc::Corrupt;
  if (useless) keep_only(job.folder, "");
  return Fail(*last);
}

Result<RegistryAnswer> push(const RegistryJob& job, const OnProgress& progress) {
  const RegistryEndpoint& endpoint = job.endpoints.back();
  if (!job.reference.digest.empty()) return Fail({Errc::Invalid, "an image is pushed to a tag: its digest follows from its bytes"});
  std::string module;
  std::array<char, 64 * 1024> buffer;
  for (ssize_t n = 0; (n = ::pread(job.module_fd, buffer.data(), buffer.size(), static_cast<off_t>(module.size()))) > 0;) {
    module.append(buffer.data(), static_cast<std::size_t>(n));
    if (module.size() > job.module_bytes_max) return Fail({Errc::Exhausted, "the module is too large"});
  }
  Teller teller(progress);
  teller.expect(module.size() + kEmptyConfig.size());
  Transfer transfer(endpoint, job.reference.repository, "pull,push", job.stall_timeout, [&](std::uint64_t bytes) { teller.came(bytes); });
  const std::string layer = digest_of(module), config = digest_of(kEmptyConfig);
  TRY_OK(put_blob(transfer, job, endpoint, module, layer));
  TRY_OK(put_blob(transfer, job, endpoint, kEmptyConfig, config));
  const std::string manifest = std::format(
      R"({{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[{{"mediaType":"{}","digest":"{}","size":{}}}]}})", kManifestType,
      kWasmConfigType, config, kEmptyConfig.size(), kWasmLayerType, layer, module.size());
  TRY_OK(transfer.send("PUT", std::format("/v2/{}/manifests/{}", job.reference.repository, job.reference.tag), kManifestType, manifest));
  return RegistryAnswer(answer::Pushed{digest_of(manifest)});
}

}  // namespace skerry::oci
