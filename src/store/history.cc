// SPDX-License-Identifier: Apache-2.0
#include "store/history.h"

#include <algorithm>

#include "base/check.h"

namespace skerry::store {

std::string_view to_string(EventType type) {
  switch (type) {
    case EventType::Added: return "ADDED";
    case EventType::Modified: return "MODIFIED";
    case EventType::Deleted: return "DELETED";
  }
  return "";
}

Bytes make_line(EventType type, std::string_view object_json) {
  std::string out;
  out.reserve(object_json.size() + 40);
  out += R"({"type":")";
  out += to_string(type);
  out += R"(","object":)";
  out += object_json;
  out += "}\n";
  return std::make_shared<const std::string>(std::move(out));
}

kube::ObjectPtr Change::left() const {
  CHECK(previous != nullptr);
  auto edit = kube::JsonEdit::copy(previous->parse().root());
  edit.root().object("metadata").set("resourceVersion", std::to_string(revision.value()));
  auto made = kube::Object::from_json(edit.dump());
  CHECK(made.has_value());
  return std::move(*made);
}

Bytes Change::line(EventType type) const {
  if (line_ && line_->type == type) {
    if (auto line = line_->text.lock()) return line;
  }
  const bool as_left = type == EventType::Deleted && !removed;
  auto line = make_line(type, *(as_left ? left() : object)->json());
  line_ = std::make_unique<Line>(type, line);
  return line;
}

void History::push(ChangePtr change) {
  bytes_ += change->object->stored_size() + sizeof(Change);
  changes_.push_back(std::move(change));
  if (changes_.size() > kWarm) changes_[changes_.size() - 1 - kWarm]->cool();
  while (changes_.size() > limits_.changes_max || (bytes_ > limits_.bytes_max && changes_.size() > 1)) {
    floor_ = changes_.front()->revision;
    bytes_ -= changes_.front()->object->stored_size() + sizeof(Change);
    changes_.pop_front();
    ++first_;
  }
}

std::uint64_t History::after(kube::Revision revision) const {
  const auto at = std::ranges::upper_bound(changes_, revision, {}, [](const ChangePtr& c) { return c->revision; });
  return first_ + static_cast<std::uint64_t>(at - changes_.begin());
}

}  // namespace skerry::store
