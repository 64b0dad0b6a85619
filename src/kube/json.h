// SPDX-License-Identifier: Apache-2.0
// JSON for the whole product; yyjson is behind it and nowhere else. Three types:
//   JsonDoc   owns a parsed, immutable text.            JsonDoc::parse(bytes)
//   Json      a view into one, null-safe:               doc.root()["spec"]["replicas"].i64(1)
//   JsonEdit  owns a mutable tree; MutJson is a handle: edit.root().object("metadata").set("name", "a")
// A view or a handle must not outlive its owner. Nothing here is thread-safe except reading an immutable document.
#pragma once
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

struct yyjson_doc;
struct yyjson_val;
struct yyjson_mut_doc;
struct yyjson_mut_val;

namespace skerry::kube {

enum class JsonKind : std::uint8_t { Missing, Null, Bool, Integer, Real, String, Array, Object };

class Json {
 public:
  Json() = default;  // Missing
  explicit Json(yyjson_val* value) : value_(value) {}

  JsonKind kind() const;
  bool exists() const { return value_ != nullptr; }
  explicit operator bool() const { return exists(); }
  bool is_null() const { return kind() == JsonKind::Null; }
  bool is_string() const { return kind() == JsonKind::String; }
  bool is_object() const { return kind() == JsonKind::Object; }
  bool is_array() const { return kind() == JsonKind::Array; }
  bool is_bool() const { return kind() == JsonKind::Bool; }
  bool is_integer() const { return kind() == JsonKind::Integer; }
  bool is_number() const { return kind() == JsonKind::Integer || kind() == JsonKind::Real; }

  // Missing wherever the path does not lead. With duplicate keys the last wins, as in Go.
  Json operator[](std::string_view key) const;
  Json operator[](const char* key) const { return (*this)[std::string_view(key)]; }
  Json operator[](std::size_t index) const;
  Json path(std::string_view dotted) const;  // "spec.template.metadata"; keys that contain dots need operator[]
  std::size_t size() const;                  // of an array or object; else 0

  std::string_view str(std::string_view otherwise = {}) const;  // otherwise, unless a string
  std::int64_t i64(std::int64_t otherwise = 0) const;           // otherwise, unless an integer (a real with no fraction counts)
  double real(double otherwise = 0) const;
  bool boolean(bool otherwise = false) const;

  std::string dump() const;          // compact; members in their order
  bool equals(Json other) const;     // deep; objects irrespective of order

  class Iterator;
  struct Members;
  struct Items;
  Items items() const;      // for (Json item : array.items())
  Members members() const;  // for (auto [key, value] : object.members())
  yyjson_val* raw() const { return value_; }

 private:
  yyjson_val* value_ = nullptr;
};

struct JsonMember {
  std::string_view key;
  Json value;
};
struct Json::Items {
  struct Iterator {
    yyjson_val* at;
    std::size_t left;
    Json operator*() const { return Json(at); }
    Iterator& operator++();
    bool operator==(const Iterator& o) const { return left == o.left; }
  };
  yyjson_val* array;
  Iterator begin() const;
  Iterator end() const { return {nullptr, 0}; }
};
struct Json::Members {
  struct Iterator {
    yyjson_val* key;
    std::size_t left;
    JsonMember operator*() const;
    Iterator& operator++();
    bool operator==(const Iterator& o) const { return left == o.left; }
  };
  yyjson_val* object;
  Iterator begin() const;
  Iterator end() const { return {nullptr, 0}; }
};

class JsonDoc {
 public:
  // Strict JSON (RFC 8259), UTF-8 checked. Invalid: with position and reason. Depth above 200: Invalid.
  static Result<JsonDoc> parse(std::string_view text);
  Json root() const;

 private:
  struct Free { void operator()(yyjson_doc*) const; };
  explicit JsonDoc(yyjson_doc* doc) : doc_(doc) {}
  std::unique_ptr<yyjson_doc, Free> doc_;
};

// A handle into a JsonEdit. Reading works as with Json. Setting copies strings and values.
class MutJson {
 public:
  MutJson() = default;
  MutJson(yyjson_mut_doc* doc, yyjson_mut_val* value) : doc_(doc), value_(value) {}

  JsonKind kind() const;
  bool exists() const { return value_ != nullptr; }
  explicit operator bool() const { return exists(); }
  bool is_object() const { return kind() == JsonKind::Object; }
  bool is_array() const { return kind() == JsonKind::Array; }
  bool is_string() const { return kind() == JsonKind::String; }
  bool is_null() const { return kind() == JsonKind::Null; }
  std::size_t size() const;
  std::string_view str(std::string_view otherwise = {}) const;
  std::int64_t i64(std::int64_t otherwise = 0) const;
  bool boolean(bool otherwise = false) const;

  MutJson operator[](std::string_view key) const;  // Missing if absent
  MutJson operator[](const char* key) const { return (*this)[std::string_view(key)]; }
  MutJson operator[](std::size_t index) const;
  MutJson path(std::string_view dotted) const;

  // The member as an object (array), made or replaced if it is not one. *this must be an object.
  MutJson object(std::string_view key);
  MutJson array(std::string_view key);
  // Set a member; replaces in place, keeps the position. *this must be an object.
  void set(std::string_view key, std::string_view value);
  void set(std::string_view key, const char* value) { set(key, std::string_view(value)); }
  void set(std::string_view key, std::int64_t value);
  void set(std::string_view key, int value) { set(key, static_cast<std::int64_t>(value)); }
  void set(std::string_view key, bool value);
  void set(std::string_view key, double value);
  void set(std::string_view key, Json value);     // deep copy
  void set(std::string_view key, MutJson value);  // deep copy
  void set_null(std::string_view key);
  // Adds a member without looking whether the key exists: for builders that know it does not, and for large maps.
  void append(std::string_view key, std::string_view value);
  void append(std::string_view key, const char* value) { append(key, std::string_view(value)); }
  void append(std::string_view key, std::int64_t value);
  void append(std::string_view key, int value) { append(key, static_cast<std::int64_t>(value)); }
  void append(std::string_view key, bool value);
  void append(std::string_view key, double value);
  void append(std::string_view key, Json value);
  void append(std::string_view key, MutJson value);
  MutJson append_object(std::string_view key);
  MutJson append_array(std::string_view key);
  bool remove(std::string_view key);  // false: was absent
  void rename(std::string_view from, std::string_view to);
  void clear();                       // of an object or array: empties it

  // Arrays. *this must be an array.
  void push(std::string_view value);
  void push(const char* value) { push(std::string_view(value)); }
  void push(std::int64_t value);
  void push(int value) { push(static_cast<std::int64_t>(value)); }
  void push(Json value);
  void push(MutJson value);
  MutJson push_object();
  MutJson push_array();
  void insert(std::size_t index, MutJson value);  // deep copy
  void erase(std::size_t index);
  void replace(std::size_t index, MutJson value);  // deep copy

  void assign(MutJson value);  // this value becomes a deep copy of that (any kind), in place
  void assign(Json value);

  std::string dump() const;
  bool equals(MutJson other) const;

  struct Member;
  struct Items {
    struct Iterator {
      yyjson_mut_doc* doc; yyjson_mut_val* at; std::size_t left;
      MutJson operator*() const { return {doc, at}; }
      Iterator& operator++();
      bool operator==(const Iterator& o) const { return left == o.left; }
    };
    yyjson_mut_doc* doc; yyjson_mut_val* array;
    Iterator begin() const;
    Iterator end() const { return {nullptr, nullptr, 0}; }
  };
  struct Members {
    struct Iterator {
      yyjson_mut_doc* doc; yyjson_mut_val* key; std::size_t left;
      Member operator*() const;
      Iterator& operator++();
      bool operator==(const Iterator& o) const { return left == o.left; }
    };
    yyjson_mut_doc* doc; yyjson_mut_val* object;
    Iterator begin() const;
    Iterator end() const { return {nullptr, nullptr, 0}; }
  };
  // Do not add or remove elements of the container while iterating over it.
  Items items() const;
  Members members() const;
  yyjson_mut_val* raw() const { return value_; }
  yyjson_mut_doc* raw_doc() const { return doc_; }

 private:
  yyjson_mut_doc* doc_ = nullptr;
  yyjson_mut_val* value_ = nullptr;
};
struct MutJson::Member {
  std::string_view key;
  MutJson value;
};

class JsonEdit {
 public:
  JsonEdit();                             // {}
  static JsonEdit array();                // []
  static JsonEdit copy(Json);             // a deep copy
  static JsonEdit copy(MutJson);
  static Result<JsonEdit> parse(std::string_view text);
  MutJson root() const;
  std::string dump() const;               // compact, members in their order
  JsonDoc freeze() const;                 // an immutable copy, for code that reads Json

 private:
  struct Free { void operator()(yyjson_mut_doc*) const; };
  explicit JsonEdit(yyjson_mut_doc* doc) : doc_(doc) {}
  std::unique_ptr<yyjson_mut_doc, Free> doc_;
};

std::string json_quote(std::string_view text);  // "text" with escapes

}  // namespace skerry::kube
