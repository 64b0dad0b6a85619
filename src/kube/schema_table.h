// SPDX-License-Identifier: Apache-2.0
// The rows that tools/schema_gen writes into the build folder (kube_schema_table.cc). Only schema.h reads them; everybody
// else uses its accessors. Rows hold offsets instead of pointers, so that the table needs no relocation and stays in
// clean, shared pages of the program file.
#pragma once
#include <cstdint>

namespace skerry::kube::table {

enum class Type : std::uint8_t {
  String, Bytes, Bool, Int32, Int64, UInt32, UInt64, Float, Double, Message,
  Time, MicroTime, Duration, Quantity, IntOrString, RawExtension, FieldsV1,
  StringList,  // a message that wraps `repeated string items`; a plain array in JSON
};
enum class Shape : std::uint8_t { Single, List, Map };  // Map: string keys
enum class ListType : std::uint8_t { Unset, Atomic, Set, Map };
enum class MapType : std::uint8_t { Unset, Atomic, Granular };

enum FieldFlag : std::uint16_t {
  kPointer = 1,      // nil differs from the zero value
  kOmitEmpty = 2,    // an empty value is not written
  kOptional = 4,     // +optional (or omitempty without +required)
  kPatchMerge = 8,   // patchStrategy merge
  kPatchReplace = 16,
  kPatchRetainKeys = 32,
  kTypeMeta = 64,    // kind and apiVersion of a top-level object: no protobuf tag
};
enum MessageFlag : std::uint16_t { kTopLevel = 1, kClusterScoped = 2, kGenClient = 4 };

struct FieldRow {
  std::uint32_t name, go_type, default_json, merge_key, list_keys;  // offsets into kText; list_keys joined by ','
  std::uint32_t description;                                        // offset into kDescriptions
  std::uint16_t description_size, flags;
  std::uint16_t tag, inline_tag;  // inline_tag: the tag of the embedded message that holds this field in protobuf, or 0
  std::uint16_t message;          // index into kMessages when type is Message
  std::uint8_t name_size, merge_key_size;
  Type type;
  Shape shape;
  ListType list_type;
  MapType map_type;
};
struct MessageRow {
  std::uint32_t name;         // full protobuf name, offset into kText
  std::uint32_t description;  // offset into kDescriptions
  std::uint32_t slots;        // offset into kSlots
  std::uint32_t seed;         // for field_hash
  std::uint16_t description_size, name_size;
  std::uint16_t first_field, field_count;
  std::uint16_t slot_count;  // a power of two; 0xff in a slot means empty
  std::uint16_t flags;
};

extern const char kText[];
extern const char kDescriptions[];
extern const FieldRow kFields[];
extern const MessageRow kMessages[];  // sorted by name
extern const std::uint16_t kMessageCount, kFieldCount;
extern const std::uint8_t kSlots[];

}  // namespace skerry::kube::table
