// SPDX-License-Identifier: Apache-2.0
// The writing half of codec.h: a tree → the bytes that Go's encoder would write for the struct that holds it.
#include <yyjson.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "kube/codec.h"
#include "kube/json_text.h"

namespace skerry::kube {
namespace {

constexpr std::size_t kFieldsMax = 128;

// The two kinds of trees behind one set of names.
struct Frozen {
  using Value = yyjson_val*;
  static bool is_str(Value v) { return yyjson_is_str(v); }
  static bool is_obj(Value v) { return yyjson_is_obj(v); }
  static bool is_arr(Value v) { return yyjson_is_arr(v); }
  static bool is_null(Value v) { return yyjson_is_null(v); }
  static bool is_false(Value v) { return yyjson_is_false(v); }
  static bool is_bool(Value v) { return yyjson_is_bool(v); }
  static bool is_uint(Value v) { return yyjson_is_uint(v); }
  static bool is_sint(Value v) { return yyjson_is_sint(v); }
  static bool is_num(Value v) { return yyjson_is_num(v); }
  static std::uint64_t uint(Value v) { return yyjson_get_uint(v); }
  static std::int64_t sint(Value v) { return yyjson_get_sint(v); }
  static double num(Value v) { return yyjson_get_num(v); }
  static std::string_view str(Value v) { return {yyjson_get_str(v), yyjson_get_len(v)}; }
  static std::size_t size(Value v) { return yyjson_is_arr(v) ? yyjson_arr_size(v) : yyjson_obj_size(v); }
  static std::string dump(Value v) { return Json(v).dump(); }
  template <class F>
  static void members(Value v, F&& f) {
    yyjson_obj_iter iter = yyjson_obj_iter_with(v);
    while (yyjson_val* key = yyjson_obj_iter_next(&iter)) f(str(key), yyjson_obj_iter_get_val(key));
  }
  template <class F>
  static void items(Value v, F&& f) {
    yyjson_arr_iter iter = yyjson_arr_iter_with(v);
    while (yyjson_val* item = yyjson_arr_iter_next(&iter)) f(item);
  }
};
struct Editable {
  using Value = yyjson_mut_val*;
  static bool is_str(Value v) { return yyjson_mut_is_str(v); }
  static bool is_obj(Value v) { return yyjson_mut_is_obj(v); }
  static bool is_arr(Value v) { return yyjson_mut_is_arr(v); }
  static bool is_null(Value v) { return yyjson_mut_is_null(v); }
  static bool is_false(Value v) { return yyjson_mut_is_false(v); }
  static bool is_bool(Value v) { return yyjson_mut_is_bool(v); }
  static bool is_uint(Value v) { return yyjson_mut_is_uint(v); }
  static bool is_sint(Value v) { return yyjson_mut_is_sint(v); }
  static bool is_num(Value v) { return yyjson_mut_is_num(v); }
  static std::uint64_t uint(Value v) { return yyjson_mut_get_uint(v); }
  static std::int64_t sint(Value v) { return yyjson_mut_get_sint(v); }
  static double num(Value v) { return yyjson_mut_get_num(v); }
  static std::string_view str(Value v) { return {yyjson_mut_get_str(v), yyjson_mut_get_len(v)}; }
  static std::size_t size(Value v) { return yyjson_mut_is_arr(v) ? yyjson_mut_arr_size(v) : yyjson_mut_obj_size(v); }
  static std::string dump(Value v) { return MutJson(nullptr, v).dump(); }
  template <class F>
  static void members(Value v, F&& f) {
    yyjson_mut_obj_iter iter = yyjson_mut_obj_iter_with(v);
    while (yyjson_mut_val* key = yyjson_mut_obj_iter_next(&iter)) f(str(key), yyjson_mut_obj_iter_get_val(key));
  }
  template <class F>
  static void items(Value v, F&& f) {
    yyjson_mut_arr_iter iter = yyjson_mut_arr_iter_with(v);
    while (yyjson_mut_val* item = yyjson_mut_arr_iter_next(&iter)) f(item);
  }
};

template <class Tree>
class Writer {
 public:
  using Value = Tree::Value;
  explicit Writer(std::string& out) : out_(out) {}

  void message(Message m, Value value) {
    std::array<Value, kFieldsMax> found;
    const std::size_t count = m.field_count();
    CHECK(count <= kFieldsMax);
    std::fill_n(found.begin(), count, nullptr);
    if (value != nullptr && Tree::is_obj(value))
      Tree::members(value, [&](std::string_view key, Value v) {
        const int index = m.find_index(key);
        if (index >= 0) found[static_cast<std::size_t>(index)] = Tree::is_null(v) ? nullptr : v;
      });
    out_ += '{';
    const std::size_t start = out_.size();
    for (std::size_t i = 0; i < count; ++i) {
      const Field f = m.field(i);
      if (found[i] == nullptr ? absent_is_omitted(f) : omitted(f, found[i])) continue;
      if (out_.size() > start) out_ += ',';
      out_ += '"';
      out_ += f.name();
      out_ += "\":";
      if (found[i] == nullptr) zero(f);
      else field(f, found[i]);
    }
    out_ += '}';
  }

 private:
  // A Go struct is never empty for omitempty, and neither are the types that are structs in Go.
  static bool is_go_struct(Field f) {
    switch (f.type()) {
      case FieldType::Message: case FieldType::Time: case FieldType::MicroTime: case FieldType::Quantity: case FieldType::IntOrString:
      case FieldType::RawExtension: case FieldType::Duration:
        return true;
      default: return false;
    }
  }
  static bool absent_is_omitted(Field f) {
    if (!f.has(table::kOmitEmpty)) return false;
    return f.shape() != Shape::Single || f.has(table::kPointer) || !is_go_struct(f);
  }
  static bool omitted(Field f, Value v) {
    if (!f.has(table::kOmitEmpty)) return false;
    if (f.shape() != Shape::Single || f.type() == FieldType::StringList) return Tree::size(v) == 0 && !f.has(table::kPointer);
    if (f.has(table::kPointer)) return false;
    switch (f.type()) {
      case FieldType::String: case FieldType::Bytes: return Tree::str(v).empty();
      case FieldType::Bool: return Tree::is_false(v);
      case FieldType::Int32: case FieldType::Int64: case FieldType::UInt32: case FieldType::UInt64: case FieldType::Float:
      case FieldType::Double:
        return Tree::num(v) == 0;
      default: return false;
    }
  }
  void zero(Field f) {
    if (f.shape() != Shape::Single || f.has(table::kPointer)) {
      out_ += "null";
      return;
    }
    switch (f.type()) {
      case FieldType::String: out_ += "\"\""; break;
      case FieldType::Bool: out_ += "false"; break;
      case FieldType::Int32: case FieldType::Int64: case FieldType::UInt32: case FieldType::UInt64: case FieldType::Float:
      case FieldType::Double: case FieldType::IntOrString:
        out_ += '0';
        break;
      case FieldType::Quantity: out_ += "\"0\""; break;
      case FieldType::Duration: out_ += "\"0s\""; break;
      case FieldType::Message: message(f.message(), nullptr); break;
      default: out_ += "null"; break;
    }
  }
  void integer(auto value) {
    char buffer[24];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
    out_.append(buffer, end);
  }
  void single(Field f, Value v) {
    if (f.type() == FieldType::Message) return message(f.message(), v);
    if (Tree::is_str(v)) return append_quoted(out_, Tree::str(v));
    if (Tree::is_bool(v)) {
      out_ += Tree::is_false(v) ? "false" : "true";
      return;
    }
    if (Tree::is_uint(v)) return integer(Tree::uint(v));
    if (Tree::is_sint(v)) return integer(Tree::sint(v));
    out_ += Tree::dump(v);  // raw JSON, reals
  }
  void field(Field f, Value v) {
    if (f.shape() == Shape::Single) return single(f, v);
    if (f.shape() == Shape::List) {
      out_ += '[';
      bool first = true;
      Tree::items(v, [&](Value item) {
        if (!first) out_ += ',';
        first = false;
        if (Tree::is_null(item)) zero(f);
        else single(f, item);
      });
      out_ += ']';
      return;
    }
    map(f, v);
  }
  void map(Field f, Value v) {
    using Member = std::pair<std::string_view, Value>;
    const std::size_t size = Tree::size(v);
    std::array<Member, 16> few;
    std::vector<Member> many;
    if (size > few.size()) many.resize(size);
    const std::span<Member> members = size > few.size() ? std::span(many) : std::span(few).first(size);
    std::size_t n = 0;
    Tree::members(v, [&](std::string_view key, Value value) { members[n++] = {key, value}; });
    const auto by_key = [](const Member& a, const Member& b) { return a.first < b.first; };
    if (!std::ranges::is_sorted(members, by_key)) std::ranges::stable_sort(members, by_key);
    out_ += '{';
    for (std::size_t i = 0; i < n; ++i) {
      if (i + 1 < n && members[i].first == members[i + 1].first) continue;  // the last of duplicates wins
      if (out_.back() != '{') out_ += ',';
      append_quoted(out_, members[i].first);
      out_ += ':';
      if (members[i].second == nullptr || Tree::is_null(members[i].second)) out_ += "null";
      else single(f, members[i].second);
    }
    out_ += '}';
  }

  std::string& out_;
};

}  // namespace

std::string canonical(Message m, MutJson value) {
  std::string out;
  out.reserve(2048);
  Writer<Editable>(out).message(m, value.raw());
  return out;
}
std::string canonical(Message m, Json value) {
  std::string out;
  out.reserve(2048);
  Writer<Frozen>(out).message(m, value.raw());
  return out;
}

}  // namespace skerry::kube
