// SPDX-License-Identifier: Apache-2.0
// The schema of every served kind and all that it refers to, as constants of the program (tools/schema_gen writes the
// table into the build folder). Field and Message are cheap handles to static rows: copy them, keep them, compare them.
// No look-up allocates. Thread-safe: nothing here changes.
#pragma once
#include <optional>
#include <string_view>

#include "kube/schema_table.h"

namespace skerry::kube {

using FieldType = table::Type;
using Shape = table::Shape;
using ListType = table::ListType;
using MapType = table::MapType;

class Message;

class Field {
 public:
  Field() = default;
  explicit Field(const table::FieldRow* row) : row_(row) {}
  explicit operator bool() const { return row_ != nullptr; }
  std::string_view name() const { return {table::kText + row_->name, row_->name_size}; }  // in JSON
  FieldType type() const { return row_->type; }  // of an element, where shape() is List or Map
  Shape shape() const { return row_->shape; }
  inline Message message() const;  // only when type() is Message
  std::uint32_t tag() const { return row_->tag; }
  std::uint32_t inline_tag() const { return row_->inline_tag; }  // see schema_table.h
  bool has(table::FieldFlag flag) const { return (row_->flags & flag) != 0; }
  std::string_view go_type() const { return table::kText + row_->go_type; }  // "[]v1.Container", without the pointer
  std::string_view go_element_type() const;                                  // "v1.Container"
  std::string_view merge_key() const { return {table::kText + row_->merge_key, row_->merge_key_size}; }  // or ""
  std::string_view list_keys() const { return table::kText + row_->list_keys; }     // "port,protocol" or ""
  std::string_view default_json() const { return table::kText + row_->default_json; }  // JSON text or ""
  std::string_view description() const { return {table::kDescriptions + row_->description, row_->description_size}; }
  ListType list_type() const { return row_->list_type; }
  MapType map_type() const { return row_->map_type; }
  bool operator==(const Field&) const = default;

 private:
  const table::FieldRow* row_ = nullptr;
};

class Message {
 public:
  Message() = default;  // no message: every object with unknown content
  explicit Message(const table::MessageRow* row) : row_(row) {}
  explicit operator bool() const { return row_ != nullptr; }
  std::string_view name() const { return {table::kText + row_->name, row_->name_size}; }  // "k8s.io.api.core.v1.Pod"
  std::string_view short_name() const;                                                    // "Pod"
  std::string_view description() const { return {table::kDescriptions + row_->description, row_->description_size}; }
  bool top_level() const { return (row_->flags & table::kTopLevel) != 0; }  // has kind and apiVersion
  bool cluster_scoped() const { return (row_->flags & table::kClusterScoped) != 0; }

  // Fields in the order of the Go struct, which is the order of canonical JSON; inline structs are spliced in.
  std::size_t field_count() const { return row_->field_count; }
  Field field(std::size_t i) const { return Field(&table::kFields[row_->first_field + i]); }
  int find_index(std::string_view json_name) const;  // -1: no such field
  Field find(std::string_view json_name) const;      // false: no such field
  // By protobuf tag; inline_tag 0 for fields of the message itself.
  Field find_tag(std::uint32_t inline_tag, std::uint32_t tag) const;
  bool has_inline(std::uint32_t inline_tag) const;
  bool operator==(const Message&) const = default;

 private:
  const table::MessageRow* row_ = nullptr;
};

inline Message Field::message() const { return Message(&table::kMessages[row_->message]); }

Message find_message(std::string_view full_name);  // false: not in the table
std::size_t message_count();
Message message_at(std::size_t index);  // sorted by name

}  // namespace skerry::kube
