// SPDX-License-Identifier: Apache-2.0
#include "agent/environment.h"

#include <algorithm>
#include <format>
#include <optional>

#include "agent/pod_plan.h"
#include "base/text.h"
#include "kube/quantity.h"

namespace skerry::agent {
namespace {

using kube::Json;
using Env = std::vector<std::pair<std::string, std::string>>;

const std::string* find(const Env& env, std::string_view name) {
  for (const auto& [key, value] : env)
    if (key == name) return &value;
  return nullptr;
}
void set(Env& env, std::string_view name, std::string value) {
  for (auto& [key, old] : env)
    if (key == name) {
      old = std::move(value);
      return;
    }
  env.emplace_back(name, std::move(value));
}

// $(NAME) -> its value if known, else as it stands; $$ -> $.
std::string expand(std::string_view text, const Env& env) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '$' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    if (text[i + 1] == '$') {
      out += '$';
      ++i;
      continue;
    }
    const std::size_t close = text[i + 1] == '(' ? text.find(')', i) : std::string_view::npos;
    if (close == std::string_view::npos) {
      out += '$';
      continue;
    }
    const std::string_view name = text.substr(i + 2, close - i - 2);
    if (const std::string* value = find(env, name)) out += *value;
    else out += text.substr(i, close - i + 1);
    i = close;
  }
  return out;
}

bool is_env_name(std::string_view name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
}

enum class Source { ConfigMap, Secret };

class Resolver {
 public:
  Resolver(const kube::Object& pod, Json root, Json container, const References& references, const PodFacts& facts, const ImageDefaults& image)
      : pod_(pod), root_(root), container_(container), references_(references), facts_(facts), image_(image) {}

  Result<ResolvedEnvironment> run() {
    for (const std::string& variable : image_.env)
      if (const auto equals = variable.find('='); equals != std::string::npos) set(env_, variable.substr(0, equals), variable.substr(equals + 1));
    for (Json entry : container_["envFrom"].items()) TRY_OK(add_all(entry));
    for (Json entry : container_["env"].items()) TRY_OK(add_one(entry));
    ResolvedEnvironment out;
    for (Json arg : container_["args"].items()) out.args.push_back(expand(arg.str(), env_));
    if (out.args.empty()) out.args = image_.arguments;
    out.env = std::move(env_);
    return out;
  }

 private:
  std::string_view noun(Source s) const { return s == Source::ConfigMap ? "configmap" : "secret"; }

  // Nothing: missing, and optional.
  Result<kube::ObjectPtr> object(Source source, std::string_view name, bool optional) const {
    const auto found = source == Source::ConfigMap ? references_.config_map(pod_.namespace_(), name)
                                                   : references_.secret(pod_.namespace_(), name);
    if (found.state == References::State::Unknown)
      return Fail({Errc::Unavailable, std::format("waiting for {} \"{}\"", noun(source), name)});
    if (found.state == References::State::Missing && !optional)
      return Fail({Errc::NotFound, std::format("{} \"{}\" not found", noun(source), name)});
    return found.object;
  }

  Result<std::string> value_in(Source source, Json data, Json binary, std::string_view name, std::string_view key) const {
    const Json value = data[key];
    if (source == Source::ConfigMap) {
      if (binary[key]) return Fail({Errc::Invalid, std::format("key {} of configmap {} is binary data", key, name)});
      return std::string(value.str());
    }
    auto bytes = from_base64(value.str());
    if (!bytes) return Fail({Errc::Invalid, std::format("key {} of secret {} is not base64", key, name)});
    return std::move(*bytes);
  }

  Result<> add_all(Json entry) {
    const Source source = entry["configMapRef"] ? Source::ConfigMap : Source::Secret;
    const Json ref = source == Source::ConfigMap ? entry["configMapRef"] : entry["secretRef"];
    TRY(auto found, object(source, ref["name"].str(), ref["optional"].boolean()));
    if (!found) return {};
    const kube::JsonDoc doc = found->parse();
    for (auto [key, value] : doc.root()["data"].members()) {
      const std::string name = std::string(entry["prefix"].str()) + std::string(key);
      if (!is_env_name(name)) continue;  // as kubelet: such keys cannot be names and are left out
      TRY(auto text, value_in(source, doc.root()["data"], doc.root()["binaryData"], ref["name"].str(), key));
      set(env_, name, std::move(text));
    }
    return {};
  }

  Result<> add_one(Json entry) {
    const std::string_view name = entry["name"].str();
    const Json from = entry["valueFrom"];
    if (!from || from.is_null()) {
      set(env_, name, expand(entry["value"].str(), env_));
      return {};
    }
    if (from["configMapKeyRef"] || from["secretKeyRef"]) {
      const Source source = from["configMapKeyRef"] ? Source::ConfigMap : Source::Secret;
      const Json ref = source == Source::ConfigMap ? from["configMapKeyRef"] : from["secretKeyRef"];
      const bool optional = ref["optional"].boolean();
      TRY(auto found, object(source, ref["name"].str(), optional));
      if (!found) return {};
      const kube::JsonDoc doc = found->parse();
      const Json data = doc.root()["data"], binary = doc.root()["binaryData"];
      if (!data[ref["key"].str()] && !binary[ref["key"].str()]) {
        if (optional) return {};
        return Fail({Errc::NotFound, std::format("couldn't find key {} in {} {}/{}", ref["key"].str(),
                                                 source == Source::ConfigMap ? "ConfigMap" : "Secret", pod_.namespace_(),
                                                 ref["name"].str())});
      }
      TRY(auto text, value_in(source, data, binary, ref["name"].str(), ref["key"].str()));
      set(env_, name, std::move(text));
      return {};
    }
    if (const Json field = from["fieldRef"]) {
      TRY(auto text, field_value(field["fieldPath"].str()));
      set(env_, name, std::move(text));
      return {};
    }
    TRY(auto text, resource_value(from["resourceFieldRef"]));
    set(env_, name, std::move(text));
    return {};
  }

  Result<std::string> field_value(std::string_view path) const {
    if (path == "metadata.name") return pod_.name();
    if (path == "metadata.namespace") return pod_.namespace_();
    if (path == "metadata.uid") return pod_.uid();
    if (path == "spec.nodeName") return facts_.node_name;
    if (path == "spec.serviceAccountName") return std::string(root_["spec"]["serviceAccountName"].str("default"));
    if (path == "status.podIP" || path == "status.podIPs") return facts_.pod_ip;
    if (path == "status.hostIP" || path == "status.hostIPs") return facts_.host_ip;
    for (std::string_view kind : {"labels", "annotations"}) {
      const std::string prefix = std::format("metadata.{}['", kind);
      if (path.starts_with(prefix) && path.ends_with("']")) {
        const auto key = path.substr(prefix.size(), path.size() - prefix.size() - 2);
        return std::string(root_["metadata"][kind][key].str());
      }
    }
    return Fail({Errc::Unsupported, std::format("fieldPath {} is not served: known are metadata.name, namespace, uid, labels['x'], annotations['x'], "
                                                "spec.nodeName, spec.serviceAccountName, status.podIP and status.hostIP", path)});
  }

  Result<std::string> resource_value(Json ref) const {
    const std::string_view resource = ref["resource"].str();
    const auto [kind, name] = [&]() -> std::pair<std::string_view, std::string_view> {
      const auto dot = resource.find('.');
      return dot == std::string_view::npos ? std::pair{resource, resource} : std::pair{resource.substr(0, dot), resource.substr(dot + 1)};
    }();
    if ((kind != "limits" && kind != "requests") || (name != "cpu" && name != "memory"))
      return Fail({Errc::Unsupported, std::format("resourceFieldRef {} is not served: limits and requests of cpu and memory are", resource)});
    Json container = container_;
    if (const auto other = ref["containerName"].str(); !other.empty() && other != container_["name"].str()) {
      container = Json();
      for (Json c : root_["spec"]["containers"].items())
        if (c["name"].str() == other) container = c;
      if (!container) return Fail({Errc::Invalid, std::format("resourceFieldRef names container {}, which the pod does not have", other)});
    }
    // Without a limit the bound that applies all the same: the default memory, one worker.
    const std::string unset = kind == "requests" ? "0" : name == "cpu" ? "1" : std::to_string(kDefaultMemoryBytes);
    const auto quantity = kube::Quantity::parse(container["resources"][kind][name].str(unset));
    const auto divisor = kube::Quantity::parse(ref["divisor"].str("1"));
    if (!quantity) return Fail({Errc::Invalid, std::format("{} of container {} is not a quantity", resource, container["name"].str())});
    const std::int64_t by = divisor ? (name == "cpu" ? divisor->milli_value() : divisor->value()) : 0;
    const std::int64_t amount = name == "cpu" ? quantity->milli_value() : quantity->value();
    const std::int64_t unit = by > 0 ? by : (name == "cpu" ? 1000 : 1);  // divisor "0" means 1
    return std::to_string((amount + unit - 1) / unit);
  }

  const kube::Object& pod_;
  Json root_, container_;
  const References& references_;
  const PodFacts& facts_;
  const ImageDefaults& image_;
  Env env_;
};

}  // namespace

Result<ResolvedEnvironment> resolve_environment(const kube::Object& pod, std::string_view container, const References& references,
                                                const PodFacts& facts, const ImageDefaults& image) {
  const kube::JsonDoc doc = pod.parse();
  for (Json c : doc.root()["spec"]["containers"].items())
    if (c["name"].str() == container) {
      auto out = Resolver(pod, doc.root(), c, references, facts, image).run();
      if (!out) return Fail(std::move(out).error());
      return out;
    }
  return Fail({Errc::Invalid, std::format("pod {}/{} has no container {}", pod.namespace_(), pod.name(), container)});
}

}  // namespace skerry::agent
