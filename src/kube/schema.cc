// SPDX-License-Identifier: Apache-2.0
#include "kube/schema.h"

#include "kube/schema_hash.h"

namespace skerry::kube {

std::string_view Field::go_element_type() const {
  const std::string_view type = go_type();
  if (shape() == Shape::List && type.starts_with("[]")) return type.substr(2);
  if (shape() == Shape::Map && type.starts_with("map[")) return type.substr(type.find(']') + 1);
  return type;
}

std::string_view Message::short_name() const {
  const std::string_view full = name();
  return full.substr(full.rfind('.') + 1);
}

int Message::find_index(std::string_view json_name) const {
  const std::uint32_t slot = field_hash(json_name, row_->seed) & (row_->slot_count - 1U);
  const std::uint8_t index = table::kSlots[row_->slots + slot];
  return index < row_->field_count && field(index).name() == json_name ? index : -1;
}

Field Message::find(std::string_view json_name) const {
  const int index = find_index(json_name);
  return index < 0 ? Field() : field(static_cast<std::size_t>(index));
}

Field Message::find_tag(std::uint32_t inline_tag, std::uint32_t tag) const {
  for (std::size_t i = 0; i < field_count(); ++i) {
    const Field f = field(i);
    if (f.tag() == tag && f.inline_tag() == inline_tag && !f.has(table::kTypeMeta)) return f;
  }
  return {};
}

bool Message::has_inline(std::uint32_t inline_tag) const {
  for (std::size_t i = 0; i < field_count(); ++i)
    if (field(i).inline_tag() == inline_tag) return true;
  return false;
}

Message find_message(std::string_view full_name) {
  std::size_t low = 0, high = table::kMessageCount;
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    const Message m = message_at(middle);
    const auto order = m.name() <=> full_name;
    if (order == 0) return m;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return {};
}

std::size_t message_count() { return table::kMessageCount; }
Message message_at(std::size_t index) { return Message(&table::kMessages[index]); }

}  // namespace skerry::kube
