// SPDX-License-Identifier: Apache-2.0
#include "kube/object.h"

#include <algorithm>

#include "base/check.h"
#include "base/text.h"

namespace skerry::kube {

Result<ObjectPtr> Object::from_json(std::string json) {
  TRY(const auto doc, JsonDoc::parse(json));
  const Json root = doc.root();
  const Json metadata = root["metadata"];
  if (!root.is_object() || !metadata.is_object()) return Fail({Errc::Invalid, "an object needs a metadata field"});
  auto object = std::make_shared<Object>();
  object->kind = root["kind"].str();
  object->namespace_ = metadata["namespace"].str();
  object->name = metadata["name"].str();
  object->uid = metadata["uid"].str();
  for (const auto [key, value] : metadata["labels"].members()) object->labels.emplace_back(key, value.str());
  std::ranges::sort(object->labels);
  object->node_name = root["spec"]["nodeName"].str();
  object->phase = root["status"]["phase"].str();
  object->revision = Revision(parse_int<std::uint64_t>(metadata["resourceVersion"].str()).value_or(0));
  object->deleting = metadata["deletionTimestamp"].is_string();
  object->json = std::move(json);
  return object;
}

JsonDoc Object::parse() const {
  auto doc = JsonDoc::parse(json);
  CHECK(doc.has_value());
  return std::move(*doc);
}

std::string_view Object::label(std::string_view key) const {
  const auto at = std::ranges::lower_bound(labels, key, {}, [](const auto& pair) -> std::string_view { return pair.first; });
  return at != labels.end() && at->first == key ? std::string_view(at->second) : std::string_view();
}

}  // namespace skerry::kube
