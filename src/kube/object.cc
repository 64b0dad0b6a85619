// SPDX-License-Identifier: Apache-2.0
#include "kube/object.h"

#include <lz4.h>

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/text.h"

namespace skerry::kube {
namespace {

constexpr std::uint32_t kSizeMax = 0x7fffffff;

std::unique_ptr<const char[]> copy(std::string_view bytes) {
  if (bytes.empty()) return nullptr;
  auto out = std::make_unique_for_overwrite<char[]>(bytes.size());
  std::ranges::copy(bytes, out.get());
  return out;
}

}  // namespace

Object::Object(Key, std::shared_ptr<const Identity> identity, std::shared_ptr<const Traits> traits, Revision r, bool is_deleting,
               std::size_t json_size, Text text, std::string_view packed)
    : identity_(std::move(identity)), traits_(std::move(traits)), text_(std::move(text)), packed_(copy(packed)), revision_(r),
      packed_size_(static_cast<std::uint32_t>(packed.size())), json_size_(static_cast<std::uint32_t>(json_size) & kSizeMax), deleting_(is_deleting) {}

Result<ObjectPtr> Object::from_json(std::string json) {
  if (json.size() > kSizeMax) return Fail({Errc::Invalid, "an object is larger than 2 GiB"});
  TRY(const auto doc, JsonDoc::parse(json));
  const Json root = doc.root();
  const Json metadata = root["metadata"];
  if (!root.is_object() || !metadata.is_object()) return Fail({Errc::Invalid, "an object needs a metadata field"});
  auto identity = std::make_shared<Identity>();
  identity->namespace_ = metadata["namespace"].str();
  identity->name = metadata["name"].str();
  identity->uid = metadata["uid"].str();
  auto traits = std::make_shared<Traits>();
  traits->kind = root["kind"].str();
  for (const auto [key, value] : metadata["labels"].members()) traits->labels.emplace_back(key, value.str());
  std::ranges::sort(traits->labels);
  traits->node_name = root["spec"]["nodeName"].str();
  traits->phase = root["status"]["phase"].str();
  const Revision revision(parse_int<std::uint64_t>(metadata["resourceVersion"].str()).value_or(0));
  const bool deleting = metadata["deletionTimestamp"].is_string();
  const std::size_t size = json.size();
  return std::make_shared<const Object>(Key{}, std::move(identity), std::move(traits), revision, deleting, size,
                                        std::make_shared<const std::string>(std::move(json)), std::string_view());
}

Text Object::json() const {
  if (!packed_) return text_;
  auto out = std::make_shared<std::string>();
  out->resize_and_overwrite(json_size_, [&](char* to, std::size_t size) {
    const int made = LZ4_decompress_safe_usingDict(packed_.get(), to, static_cast<int>(packed_size_), static_cast<int>(size), text_->data(),
                                                   static_cast<int>(text_->size()));
    CHECK(made >= 0 && static_cast<std::size_t>(made) == size);
    return size;
  });
  return out;
}

JsonDoc Object::parse() const {
  auto doc = JsonDoc::parse(*json());
  CHECK(doc.has_value());
  return std::move(*doc);
}

namespace {

// The key's parts, without putting them together.
struct KeyParts {
  std::string_view namespace_, name;
  std::size_t size() const { return namespace_.empty() ? name.size() : namespace_.size() + 1 + name.size(); }
  // From position `at` on, as much as lies together.
  std::string_view from(std::size_t at) const {
    if (namespace_.empty()) return name.substr(at);
    if (at < namespace_.size()) return namespace_.substr(at);
    return at == namespace_.size() ? std::string_view("/") : name.substr(at - namespace_.size() - 1);
  }
};

int compare(const KeyParts& a, const KeyParts& b) {
  const std::size_t a_size = a.size(), b_size = b.size(), both = std::min(a_size, b_size);
  for (std::size_t at = 0; at < both;) {
    const std::string_view x = a.from(at), y = b.from(at);
    const std::size_t n = std::min({x.size(), y.size(), both - at});
    if (const int order = x.substr(0, n).compare(y.substr(0, n)); order != 0) return order;
    at += n;
  }
  return a_size < b_size ? -1 : a_size > b_size ? 1 : 0;
}

}  // namespace

int compare_keys(const Object& a, const Object& b) { return compare({a.namespace_(), a.name()}, {b.namespace_(), b.name()}); }
int compare_keys(const Object& a, std::string_view key) { return compare({a.namespace_(), a.name()}, {{}, key}); }

Objects::iterator put(Objects& objects, ObjectPtr object) {
  const auto at = objects.lower_bound(object);
  if (at == objects.end() || compare_keys(**at, *object) != 0) return objects.insert(at, std::move(object));
  const auto next = std::next(at);
  auto node = objects.extract(at);
  node.value() = std::move(object);
  return objects.insert(next, std::move(node));
}

std::string_view Object::label(std::string_view key) const {
  const auto at = std::ranges::lower_bound(labels(), key, {}, [](const auto& pair) -> std::string_view { return pair.first; });
  return at != labels().end() && at->first == key ? std::string_view(at->second) : std::string_view();
}

}  // namespace skerry::kube
