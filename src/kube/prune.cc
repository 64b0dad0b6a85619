// SPDX-License-Identifier: Apache-2.0
// The structural half of codec.h: a parsed text → a tree that has the shape of its schema.
#include <yyjson.h>

#include <algorithm>
#include <array>
#include <format>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/text.h"
#include "base/time.h"
#include "kube/codec.h"
#include "kube/quantity.h"

namespace skerry::kube {
namespace {

constexpr std::size_t kStrictErrorsMax = 100;
constexpr std::size_t kFieldsMax = 128;

// Where the walk is; a chain on the stack, turned into text only when something is wrong.
struct Frame {
  const Frame* up = nullptr;
  Message message;           // the struct whose member this is
  std::string_view key;      // the member; empty in the frame of a list element
  std::ptrdiff_t index = -1;  // of a list element
  bool map_key = false;
};

std::string strict_path(const Frame* f) {
  if (f == nullptr) return "";
  std::string up = strict_path(f->up);
  if (f->index >= 0) return std::format("{}[{}]", up, f->index);
  if (!up.empty()) up += '.';
  return up += f->key;
}
// Go's encoding/json names the struct fields only: no indices, no map keys.
std::string go_path(const Frame* f) {
  if (f == nullptr) return "";
  std::string up = go_path(f->up);
  if (f->index >= 0 || f->map_key) return up;
  if (!up.empty()) up += '.';
  return up += f->key;
}
Message go_struct(const Frame* f) {
  while (f != nullptr && (f->index >= 0 || f->map_key)) f = f->up;
  return f == nullptr ? Message() : f->message;
}

class Pruner {
 public:
  Pruner(yyjson_mut_doc* doc, DecodeReport& report) : doc_(doc), report_(report) {}

  yyjson_mut_val* message(Message m, yyjson_val* value, const Frame* at, std::string_view go_type) {
    if (!yyjson_is_obj(value)) return mismatch(value, at, go_type);
    std::array<yyjson_val*, kFieldsMax> found;
    const std::size_t count = m.field_count();
    CHECK(count <= kFieldsMax);
    std::fill_n(found.begin(), count, nullptr);
    yyjson_obj_iter iter = yyjson_obj_iter_with(value);
    while (yyjson_val* key = yyjson_obj_iter_next(&iter)) {
      const std::string_view name(yyjson_get_str(key), yyjson_get_len(key));
      const int index = m.find_index(name);
      if (index < 0) {
        strict("unknown", m, name, at);
        continue;
      }
      if (found[static_cast<std::size_t>(index)] != nullptr) strict("duplicate", m, name, at);
      found[static_cast<std::size_t>(index)] = yyjson_obj_iter_get_val(key);
    }
    yyjson_mut_val* out = yyjson_mut_obj(doc_);
    for (std::size_t i = 0; i < count; ++i) {
      if (found[i] == nullptr || yyjson_is_null(found[i])) continue;
      const Field f = m.field(i);
      const Frame here{at, m, f.name()};
      if (yyjson_mut_val* made = field(f, found[i], &here))
        yyjson_mut_obj_add(out, yyjson_mut_strn(doc_, f.name().data(), f.name().size()), made);  // the name is static
    }
    return out;
  }

 private:
  void strict(std::string_view what, Message m, std::string_view name, const Frame* at) {
    if (report_.strict_errors.size() >= kStrictErrorsMax) return;
    const Frame here{at, m, name};
    std::string text = std::format("{} field {}", what, json_quote(strict_path(&here)));
    if (std::ranges::find(report_.strict_errors, text) == report_.strict_errors.end())
      report_.strict_errors.push_back(std::move(text));
  }
  yyjson_mut_val* wrong(std::string text) {
    if (!report_.error) report_.error = std::move(text);
    return nullptr;
  }
  yyjson_mut_val* mismatch(yyjson_val* value, const Frame* at, std::string_view go_type) {
    std::string_view kind = "number";
    if (yyjson_is_str(value)) kind = "string";
    else if (yyjson_is_bool(value)) kind = "bool";
    else if (yyjson_is_arr(value)) kind = "array";
    else if (yyjson_is_obj(value)) kind = "object";
    return wrong_kind(std::string(kind), at, go_type);
  }
  yyjson_mut_val* wrong_kind(std::string kind, const Frame* at, std::string_view go_type) {
    if (at == nullptr) return wrong(std::format("json: cannot unmarshal {} into Go value of type {}", kind, go_type));
    return wrong(std::format("json: cannot unmarshal {} into Go struct field {}.{} of type {}", kind, go_struct(at).short_name(),
                             go_path(at), go_type));
  }

  yyjson_mut_val* field(Field f, yyjson_val* value, const Frame* at) {
    switch (f.shape()) {
      case Shape::Single: return single(f, value, at, f.go_type());
      case Shape::List: {
        if (!yyjson_is_arr(value)) return mismatch(value, at, f.go_type());
        yyjson_mut_val* out = yyjson_mut_arr(doc_);
        yyjson_arr_iter iter = yyjson_arr_iter_with(value);
        Frame here{at, {}, {}, 0};
        while (yyjson_val* element = yyjson_arr_iter_next(&iter)) {
          yyjson_mut_val* made = yyjson_is_null(element) ? zero(f) : single(f, element, &here, f.go_element_type());
          if (made != nullptr) yyjson_mut_arr_append(out, made);
          ++here.index;
        }
        return out;
      }
      case Shape::Map: break;
    }
    if (!yyjson_is_obj(value)) return mismatch(value, at, f.go_type());
    yyjson_mut_val* out = yyjson_mut_obj(doc_);
    const std::vector<yyjson_val*> superseded = duplicates(value, at);
    yyjson_obj_iter iter = yyjson_obj_iter_with(value);
    while (yyjson_val* key = yyjson_obj_iter_next(&iter)) {
      if (!superseded.empty() && std::ranges::binary_search(superseded, key)) continue;
      const std::string_view name(yyjson_get_str(key), yyjson_get_len(key));
      const Frame here{at, {}, name, -1, true};
      yyjson_val* element = yyjson_obj_iter_get_val(key);
      yyjson_mut_val* made = yyjson_is_null(element) ? zero(f) : single(f, element, &here, f.go_element_type());
      if (made != nullptr) yyjson_mut_obj_add(out, yyjson_mut_strncpy(doc_, name.data(), name.size()), made);
    }
    return out;
  }

  // The keys of a map that appear again later, sorted by address; reported as duplicates.
  std::vector<yyjson_val*> duplicates(yyjson_val* map, const Frame* at) {
    const auto name = [](yyjson_val* key) { return std::string_view(yyjson_get_str(key), yyjson_get_len(key)); };
    std::array<yyjson_val*, 32> few;
    std::vector<yyjson_val*> many;
    const std::size_t size = yyjson_obj_size(map);
    if (size > few.size()) many.resize(size);
    const std::span<yyjson_val*> keys = size > few.size() ? std::span(many) : std::span(few).first(size);
    std::size_t n = 0;
    yyjson_obj_iter iter = yyjson_obj_iter_with(map);
    while (yyjson_val* key = yyjson_obj_iter_next(&iter)) keys[n++] = key;
    std::ranges::sort(keys, [&](yyjson_val* a, yyjson_val* b) { return std::pair(name(a), a) < std::pair(name(b), b); });
    std::vector<yyjson_val*> out;
    for (std::size_t i = 0; i + 1 < n; ++i) {
      if (name(keys[i]) != name(keys[i + 1])) continue;
      out.push_back(keys[i]);
      strict("duplicate", {}, name(keys[i]), at);
    }
    std::ranges::sort(out);
    return out;
  }

  // What Go leaves in a list or map for null.
  yyjson_mut_val* zero(Field f) {
    switch (f.type()) {
      case FieldType::String: case FieldType::Bytes: return yyjson_mut_str(doc_, "");
      case FieldType::Bool: return yyjson_mut_bool(doc_, false);
      case FieldType::Quantity: return yyjson_mut_str(doc_, "0");
      case FieldType::Message: return yyjson_mut_obj(doc_);
      case FieldType::Int32: case FieldType::Int64: case FieldType::UInt32: case FieldType::UInt64: case FieldType::Float:
      case FieldType::Double: case FieldType::IntOrString:
        return yyjson_mut_int(doc_, 0);
      default: return yyjson_mut_null(doc_);
    }
  }

  yyjson_mut_val* copy_string(yyjson_val* value) { return yyjson_mut_strncpy(doc_, yyjson_get_str(value), yyjson_get_len(value)); }
  yyjson_mut_val* copy_string(std::string_view text) { return yyjson_mut_strncpy(doc_, text.data(), text.size()); }

  yyjson_mut_val* single(Field f, yyjson_val* value, const Frame* at, std::string_view go_type) {
    switch (f.type()) {
      case FieldType::String: return yyjson_is_str(value) ? copy_string(value) : mismatch(value, at, go_type);
      case FieldType::Bool: return yyjson_is_bool(value) ? yyjson_mut_bool(doc_, yyjson_get_bool(value)) : mismatch(value, at, go_type);
      case FieldType::Int32: return integer(value, at, go_type, INT32_MIN, INT32_MAX);
      case FieldType::Int64: return integer(value, at, go_type, INT64_MIN, INT64_MAX);
      case FieldType::UInt32: return integer(value, at, go_type, 0, UINT32_MAX);
      case FieldType::UInt64: return integer(value, at, go_type, 0, INT64_MAX);
      case FieldType::Float: case FieldType::Double:
        if (!yyjson_is_num(value)) return mismatch(value, at, go_type);
        return yyjson_val_mut_copy(doc_, value);
      case FieldType::Message: return message(f.message(), value, at, go_type);
      case FieldType::Bytes: return bytes(value, at, go_type);
      case FieldType::Time: return time(value, false);
      case FieldType::MicroTime: return time(value, true);
      case FieldType::Duration: return duration(value);
      case FieldType::Quantity: return quantity(value);
      case FieldType::IntOrString: return int_or_string(value);
      case FieldType::RawExtension: case FieldType::FieldsV1: return yyjson_val_mut_copy(doc_, value);
      case FieldType::StringList: return string_list(value, at, go_type);
    }
    return nullptr;
  }

  yyjson_mut_val* integer(yyjson_val* value, const Frame* at, std::string_view go_type, std::int64_t min, std::int64_t max) {
    if (!yyjson_is_num(value)) return mismatch(value, at, go_type);
    if (yyjson_is_sint(value) && yyjson_get_sint(value) >= min && yyjson_get_sint(value) <= max)
      return yyjson_mut_sint(doc_, yyjson_get_sint(value));
    if (yyjson_is_uint(value) && yyjson_get_uint(value) <= static_cast<std::uint64_t>(max))
      return yyjson_mut_uint(doc_, yyjson_get_uint(value));
    return wrong_kind("number " + Json(value).dump(), at, go_type);
  }

  yyjson_mut_val* bytes(yyjson_val* value, const Frame* at, std::string_view go_type) {
    if (!yyjson_is_str(value)) return mismatch(value, at, go_type);
    std::string_view text(yyjson_get_str(value), yyjson_get_len(value));
    std::string stripped;
    if (text.find_first_of("\r\n") != std::string_view::npos) {  // Go's decoder skips line ends
      for (const char c : text)
        if (c != '\r' && c != '\n') stripped += c;
      text = stripped;
    }
    if (!from_base64(text)) {
      const std::size_t good = text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=");
      return wrong(std::format("illegal base64 data at input byte {}", std::min(good, text.size())));
    }
    return copy_string(text);
  }

  yyjson_mut_val* time(yyjson_val* value, bool micro) {
    if (!yyjson_is_str(value)) {
      const std::string_view kind = yyjson_is_num(value) ? "number" : yyjson_is_bool(value) ? "bool" : yyjson_is_arr(value) ? "array" : "object";
      return wrong(std::format("json: cannot unmarshal {} into Go value of type string", kind));
    }
    const std::string_view text(yyjson_get_str(value), yyjson_get_len(value));
    const std::optional<Time> parsed = from_rfc3339(text);
    if (micro) {
      // The layout's six decimals are not optional in Go's parser.
      const auto dot = text.find('.');
      const auto end = dot == std::string_view::npos ? dot : text.find_first_not_of("0123456789", dot + 1);
      const bool six = dot == 19 && (end == std::string_view::npos ? text.size() : end) - dot == 7;
      if (!parsed || !six) {
        const std::string_view rest = parsed && text.size() > 19 ? text.substr(19) : text;
        return wrong(std::format("parsing time {} as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse {} as \"{}\"", json_quote(text),
                                 json_quote(rest), parsed ? ".000000" : "2006"));
      }
      return copy_string(to_rfc3339_micro(*parsed));
    }
    if (!parsed)
      return wrong(std::format("parsing time {} as \"2006-01-02T15:04:05Z07:00\": cannot parse {} as \"2006\"", json_quote(text),
                               json_quote(text)));
    if (text.size() == 20 && text.back() == 'Z') return copy_string(text);
    return copy_string(to_rfc3339(*parsed));
  }

  yyjson_mut_val* duration(yyjson_val* value) {
    if (!yyjson_is_str(value)) return wrong("json: cannot unmarshal into Go value of type string");
    const std::string_view text(yyjson_get_str(value), yyjson_get_len(value));
    if (!parse_duration(text)) return wrong(std::format("time: invalid duration {}", json_quote(text)));
    return copy_string(text);
  }

  yyjson_mut_val* quantity(yyjson_val* value) {
    std::string number;
    std::string_view text;
    if (yyjson_is_str(value)) {
      text = {yyjson_get_str(value), yyjson_get_len(value)};
    } else if (yyjson_is_num(value)) {
      number = Json(value).dump();
      text = number;
    }
    const auto parsed = Quantity::parse(trim(text));
    if (!parsed) return wrong(std::string(kQuantityError));
    return copy_string(parsed->str());
  }

  yyjson_mut_val* int_or_string(yyjson_val* value) {
    if (yyjson_is_str(value)) return copy_string(value);
    if (yyjson_is_num(value)) {
      if (yyjson_is_sint(value) && yyjson_get_sint(value) >= INT32_MIN && yyjson_get_sint(value) <= INT32_MAX)
        return yyjson_mut_sint(doc_, yyjson_get_sint(value));
      if (yyjson_is_uint(value) && yyjson_get_uint(value) <= INT32_MAX) return yyjson_mut_uint(doc_, yyjson_get_uint(value));
      return wrong(std::format("json: cannot unmarshal number {} into Go value of type int32", Json(value).dump()));
    }
    const std::string_view kind = yyjson_is_bool(value) ? "bool" : yyjson_is_arr(value) ? "array" : "object";
    return wrong(std::format("json: cannot unmarshal {} into Go value of type int32", kind));
  }

  yyjson_mut_val* string_list(yyjson_val* value, const Frame* at, std::string_view go_type) {
    if (!yyjson_is_arr(value)) return mismatch(value, at, go_type);
    yyjson_mut_val* out = yyjson_mut_arr(doc_);
    yyjson_arr_iter iter = yyjson_arr_iter_with(value);
    while (yyjson_val* element = yyjson_arr_iter_next(&iter)) {
      if (!yyjson_is_str(element)) return mismatch(element, at, "string");
      yyjson_mut_arr_append(out, copy_string(element));
    }
    return out;
  }

  yyjson_mut_doc* doc_;
  DecodeReport& report_;
};

}  // namespace

JsonEdit prune(Message m, Json value, DecodeReport& report) {
  JsonEdit out;
  MutJson root = out.root();
  // One allocation each for values and strings of a usual object; larger ones grow as they must.
  yyjson_mut_doc_set_val_pool_size(root.raw_doc(), 512);
  yyjson_mut_doc_set_str_pool_size(root.raw_doc(), 4096);
  Pruner pruner(root.raw_doc(), report);
  const std::string go_type = std::format("v1.{}", m.short_name());
  if (yyjson_mut_val* made = pruner.message(m, value.raw(), nullptr, go_type)) yyjson_mut_doc_set_root(root.raw_doc(), made);
  return out;
}

}  // namespace skerry::kube
