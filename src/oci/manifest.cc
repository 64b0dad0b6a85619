// SPDX-License-Identifier: Apache-2.0
#include "oci/manifest.h"

#include <algorithm>
#include <format>

#include "kube/json.h"
#include "oci/reference.h"

namespace skerry::oci {
namespace {

using kube::Json;
constexpr std::size_t kLayersMax = 256, kEntriesMax = 1024, kWordsMax = 1024;

Result<Descriptor> parse_descriptor(Json json, std::string_view what) {
  Descriptor out{.media_type = std::string(json["mediaType"].str()), .digest = std::string(json["digest"].str())};
  const std::int64_t size = json["size"].i64(-1);
  if (!is_digest(out.digest)) return Fail({Errc::Invalid, std::format("the manifest's {} has no sha256 digest", what)});
  if (size < 0) return Fail({Errc::Invalid, std::format("the manifest's {} has no size", what)});
  out.size = static_cast<std::uint64_t>(size);
  return out;
}

std::string_view without_parameters(std::string_view media_type) {
  media_type = media_type.substr(0, media_type.find(';'));
  while (media_type.ends_with(' ')) media_type.remove_suffix(1);
  return media_type;
}

Result<Manifest> read_manifest(Json root) {
  Manifest out;
  TRY(out.config, parse_descriptor(root["config"], "config"));
  const Json layers = root["layers"];
  if (!layers.is_array() || layers.size() == 0) return Fail({Errc::Invalid, "the manifest has no layers"});
  if (layers.size() > kLayersMax) return Fail({Errc::Exhausted, std::format("the manifest has {} layers; {} are possible", layers.size(), kLayersMax)});
  for (const Json layer : layers.items()) {
    TRY(auto one, parse_descriptor(layer, "layer"));
    out.layers.push_back(std::move(one));
  }
  return out;
}

Result<Index> read_index(Json root) {
  Index out;
  const Json entries = root["manifests"];
  if (entries.size() > kEntriesMax) return Fail({Errc::Exhausted, std::format("the index has {} entries; {} are possible", entries.size(), kEntriesMax)});
  for (const Json entry : entries.items()) {
    TRY(auto descriptor, parse_descriptor(entry, "entry"));
    const Json platform = entry["platform"];
    out.entries.push_back({.manifest = std::move(descriptor), .os = std::string(platform["os"].str()), .architecture = std::string(platform["architecture"].str())});
  }
  return out;
}

Result<std::vector<std::string>> read_words(Json json, std::string_view name) {
  std::vector<std::string> out;
  if (!json || json.is_null()) return out;
  if (!json.is_array() || json.size() > kWordsMax) return Fail({Errc::Invalid, std::format("the image's {} is no list, or too long a one", name)});
  for (const Json word : json.items()) {
    if (!word.is_string() || word.str().contains('\0')) return Fail({Errc::Invalid, std::format("the image's {} holds something else than text", name)});
    out.emplace_back(word.str());
  }
  return out;
}

}  // namespace

Result<std::variant<Manifest, Index>> parse_manifest(std::string_view media_type, std::string_view bytes) {
  if (bytes.size() > kManifestBytesMax) return Fail({Errc::Exhausted, std::format("the manifest has more than {} bytes", kManifestBytesMax)});
  auto doc = kube::JsonDoc::parse(bytes);
  if (!doc) return Fail(std::move(doc).error().with("the manifest"));
  const Json root = doc->root();
  std::string_view type = without_parameters(media_type);
  // Registries on plain files answer with a general type; then the document speaks for itself.
  if (type != kManifestType && type != kIndexType && type != kDockerManifestType && type != kDockerIndexType) type = root["mediaType"].str(type);
  if (root["schemaVersion"].i64() == 1)
    return Fail({Errc::Unsupported, "the manifest is of Docker's schema 1, which no registry should serve any more; push the image again with a current tool"});
  if (type == kIndexType || type == kDockerIndexType || (!root["layers"] && root["manifests"].is_array())) {
    TRY(auto index, read_index(root));
    return std::variant<Manifest, Index>(std::move(index));
  }
  if (type != kManifestType && type != kDockerManifestType && !(root["layers"] && root["config"]))
    return Fail({Errc::Unsupported, std::format("the registry answers with \"{}\", which is no image manifest", type.substr(0, 100))});
  TRY(auto manifest, read_manifest(root));
  return std::variant<Manifest, Index>(std::move(manifest));
}

Result<Descriptor> choose(const Index& index, std::string_view architecture) {
  const auto find = [&](auto&& wanted) { return std::ranges::find_if(index.entries, wanted); };
  // "wasi/wasm", "wasip1/wasm", "wasm/wasm32": every tool has its own words, all with this architecture.
  auto at = find([](const IndexEntry& e) { return e.architecture == "wasm" || e.architecture == "wasm32"; });
  if (at == index.entries.end()) at = find([&](const IndexEntry& e) { return e.os == "linux" && e.architecture == architecture; });
  if (at == index.entries.end() && index.entries.size() == 1 && index.entries[0].os.empty()) at = index.entries.begin();
  if (at != index.entries.end()) return at->manifest;
  std::string there;
  for (const auto& e : index.entries)
    if (e.os != "unknown" && there.size() < 300) there += std::format("{}{}/{}", there.empty() ? "" : ", ", e.os.substr(0, 32), e.architecture.substr(0, 32));
  return Fail({Errc::NotFound, std::format("the image has no variant for wasi/wasm or linux/{}; it has: {}", architecture, there.empty() ? "none" : there)});
}

Result<> check_layers(const Manifest& manifest) {
  for (const auto& layer : manifest.layers) {
    const std::string_view type = layer.media_type;
    if (type.ends_with("+encrypted")) return Fail({Errc::Unsupported, "the image's layers are encrypted, which is not served; push it without encryption"});
    if (type.contains(".foreign.") || type.contains("nondistributable"))
      return Fail({Errc::Unsupported, "a layer of the image must be fetched from elsewhere (a foreign layer), which is not served; push the image with all its layers"});
  }
  return {};
}

Result<ImageConfig> parse_config(std::string_view bytes) {
  auto doc = kube::JsonDoc::parse(bytes);
  if (!doc) return Fail(std::move(doc).error().with("the image's configuration"));
  const Json config = doc->root()["config"];
  ImageConfig out;
  if (!config || config.is_null()) return out;
  TRY(out.entrypoint, read_words(config["Entrypoint"], "entrypoint"));
  TRY(out.command, read_words(config["Cmd"], "command"));
  TRY(out.env, read_words(config["Env"], "environment"));
  out.working_folder = config["WorkingDir"].str();
  for (const auto& variable : out.env)
    if (variable.find('=') == std::string::npos || variable.starts_with('=')) return Fail({Errc::Invalid, "the image's environment has an entry without NAME="});
  return out;
}

}  // namespace skerry::oci
