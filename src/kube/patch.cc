// SPDX-License-Identifier: Apache-2.0
#include "kube/patch.h"

#include <algorithm>
#include <format>
#include <string>
#include <span>
#include <vector>

#include "base/text.h"
#include "kube/strategic_merge.h"

namespace skerry::kube {
namespace {

constexpr std::size_t kOperationsMax = 10'000;
constexpr std::size_t kResultBytesMax = 3 * 1024 * 1024;

// What kube-apiserver answers to a patch that reads well but does not apply, and why it does not.
Status cannot_apply(std::string_view why = {}) {
  Status s;
  s.code = 422;
  s.reason = "Invalid";
  s.message = "the server rejected our request due to an error in our request";
  if (!why.empty()) s.message += std::format(": {}", why);
  s.details.present = true;
  return s;
}

// ---- RFC 6902

std::string unescape_token(std::string_view token) {
  std::string out;
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '~' && i + 1 < token.size() && (token[i + 1] == '0' || token[i + 1] == '1')) out += token[++i] == '0' ? '~' : '/';
    else out += token[i];
  }
  return out;
}
// The tokens of a JSON pointer; nothing if it does not start with '/'.
std::optional<std::vector<std::string>> pointer(std::string_view text) {
  std::vector<std::string> out;
  if (text.empty()) return out;
  if (text.front() != '/') return std::nullopt;
  for (const std::string_view token : split(text.substr(1), '/')) out.push_back(unescape_token(token));
  return out;
}
std::optional<std::size_t> array_index(std::string_view token, std::size_t below) {
  if (token.size() > 1 && token.front() == '0') return std::nullopt;
  const auto index = parse_int<std::size_t>(token);
  return index && *index < below ? index : std::nullopt;
}
MutJson child(MutJson at, std::string_view token) {
  if (at.is_object()) return at[token];
  if (at.is_array())
    if (const auto index = array_index(token, at.size())) return at[*index];
  return {};
}
MutJson walk(MutJson root, std::span<const std::string> tokens) {
  for (const std::string& token : tokens) {
    root = child(root, token);
    if (!root) break;
  }
  return root;
}

class JsonPatch {
 public:
  explicit JsonPatch(MutJson root) : root_(root) {}

  bool apply(Json op) {
    const auto path = pointer(op["path"].str());
    if (!path) return false;
    const std::string_view name = op["op"].str();
    const Json value = op["value"];
    if (name == "test") {
      const MutJson found = walk(root_, *path);
      const JsonEdit expected = JsonEdit::copy(value);
      return found ? found.equals(expected.root()) : value.is_null();
    }
    if (name == "remove") return remove(*path);
    if (name == "add") return value && add(*path, JsonEdit::copy(value).root());
    if (name == "replace") {
      if (!value) return false;
      MutJson found = walk(root_, *path);
      if (!found) return false;
      found.assign(value);
      return true;
    }
    if (name != "move" && name != "copy") return false;
    const auto from = pointer(op["from"].str());
    if (!from) return false;
    const MutJson source = walk(root_, *from);
    if (!source) return false;
    const JsonEdit moved = JsonEdit::copy(source);
    if (name == "copy") {
      copied_ += moved.dump().size();
      return copied_ <= kResultBytesMax && add(*path, moved.root());
    }
    const bool into_itself = path->size() > from->size() && std::ranges::equal(*from, std::span(*path).first(from->size()));
    return !into_itself && remove(*from) && add(*path, moved.root());
  }

 private:
  bool add(std::span<const std::string> path, MutJson value) {
    if (path.empty()) {
      root_.assign(value);
      return true;
    }
    MutJson parent = walk(root_, path.first(path.size() - 1));
    if (parent.is_object()) {
      parent.set(path.back(), value);
      return true;
    }
    if (!parent.is_array()) return false;
    const auto index = path.back() == "-" ? std::optional(parent.size()) : array_index(path.back(), parent.size() + 1);
    if (!index) return false;
    parent.insert(*index, value);
    return true;
  }
  bool remove(std::span<const std::string> path) {
    if (path.empty()) return false;
    MutJson parent = walk(root_, path.first(path.size() - 1));
    if (parent.is_object()) return parent.remove(path.back());
    if (!parent.is_array()) return false;
    const auto index = array_index(path.back(), parent.size());
    if (!index) return false;
    parent.erase(*index);
    return true;
  }

  MutJson root_;
  std::size_t copied_ = 0;
};

ApiResult<JsonEdit> json_patch(Json current, Json patch) {
  if (!patch.is_array())
    return ApiFail(status_bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch"));
  if (patch.size() > kOperationsMax)
    return ApiFail(status_too_large(
        std::format("The allowed maximum operations in a JSON patch is {}, got {}", kOperationsMax, patch.size())));
  JsonEdit out = JsonEdit::copy(current);
  JsonPatch applier(out.root());
  std::size_t index = 0;
  for (const Json op : patch.items()) {
    if (!applier.apply(op)) {
      constexpr std::size_t kShownMax = 200;
      const std::string text = op.dump();
      return ApiFail(cannot_apply(std::format("operation {} of the JSON patch does not apply to the object as it is: {}{}", index,
                                              std::string_view(text).substr(0, kShownMax), text.size() > kShownMax ? "…" : "")));
    }
    ++index;
  }
  return out;
}

// ---- RFC 7386

void merge_patch(MutJson target, Json patch) {
  for (const auto [key, value] : patch.members()) {
    if (value.is_null()) {
      target.remove(key);
    } else if (value.is_object()) {
      merge_patch(target.object(key), value);
    } else {
      target.set(key, value);
    }
  }
}

}  // namespace

std::optional<PatchType> patch_type(std::string_view content_type) {
  const std::string_view type = trim(content_type.substr(0, content_type.find(';')));
  if (type == "application/json-patch+json") return PatchType::Json;
  if (type == "application/merge-patch+json") return PatchType::Merge;
  if (type == "application/strategic-merge-patch+json") return PatchType::StrategicMerge;
  if (type == "application/apply-patch+yaml" || type == "application/apply-patch+cbor") return PatchType::Apply;
  return std::nullopt;
}

ApiResult<JsonEdit> apply_patch(PatchType how, Message m, Json current, std::string_view text) {
  if (how == PatchType::Apply)
    return ApiFail(status_not_implemented("server-side apply is not served yet; use kubectl apply without --server-side"));
  auto doc = JsonDoc::parse(text);
  if (!doc) return ApiFail(status_bad_request(std::format("error decoding patch: {}", doc.error().what)));
  const Json patch = doc->root();
  ApiResult<JsonEdit> out = ApiFail(cannot_apply());
  if (how == PatchType::Json) {
    out = json_patch(current, patch);
  } else {
    if (!patch.is_object())
      return ApiFail(status_bad_request("error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"));
    JsonEdit merged = JsonEdit::copy(current);
    if (how == PatchType::Merge) {
      merge_patch(merged.root(), patch);
    } else if (auto done = strategic_merge(m, merged.root(), patch); !done) {
      return ApiFail(done.error().code == Errc::Invalid ? status_bad_request(done.error().what) : cannot_apply());
    }
    out = std::move(merged);
  }
  if (!out) return out;
  if (!out->root().is_object()) return ApiFail(cannot_apply());
  if (const std::size_t size = out->dump().size(); size > kResultBytesMax)
    return ApiFail(status_too_large(std::format("the patched object has {} bytes; at most {} are allowed", size, kResultBytesMax)));
  return out;
}

}  // namespace skerry::kube
