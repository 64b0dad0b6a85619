// SPDX-License-Identifier: Apache-2.0
#include "kube/json.h"

#include <yyjson.h>

#include <cmath>
#include <format>

#include "base/check.h"

namespace skerry::kube {
namespace {

constexpr std::size_t kDepthMax = 200;

std::string take_dump(char* text, std::size_t length) {
  CHECK(text != nullptr);
  std::string out(text, length);
  std::free(text);
  return out;
}

// How many bytes at the front of `text` are one well-formed UTF-8 character (RFC 3629); 0: none.
std::size_t utf8_length(std::string_view text) {
  const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto tail = [&](std::size_t i) { return (at(i) & 0xc0U) == 0x80U; };
  const unsigned a = at(0);
  if (a < 0x80) return 1;
  if (a >= 0xc2 && a <= 0xdf) return tail(1) ? 2 : 0;
  if (a >= 0xe0 && a <= 0xef) {
    const bool overlong = a == 0xe0 && at(1) < 0xa0, surrogate = a == 0xed && at(1) >= 0xa0;
    return tail(1) && tail(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (a >= 0xf0 && a <= 0xf4) {
    const bool overlong = a == 0xf0 && at(1) < 0x90, beyond = a == 0xf4 && at(1) >= 0x90;
    return tail(1) && tail(2) && tail(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

// A string value. JSON cannot hold ill-formed UTF-8, and text from outside (a query, a path, a guest) may be anything:
// each byte that fits nowhere becomes U+FFFD, as Go's encoder does it.
yyjson_mut_val* string_value(yyjson_mut_doc* doc, std::string_view text) {
  for (std::size_t i = 0, n; i < text.size(); i += n) {
    n = utf8_length(text.substr(i));
    if (n != 0) continue;
    std::string repaired(text.substr(0, i));
    while (i < text.size()) {
      n = utf8_length(text.substr(i));
      if (n == 0) repaired += "\xef\xbf\xbd";
      else repaired += text.substr(i, n);
      i += n == 0 ? 1 : n;
    }
    return yyjson_mut_strncpy(doc, repaired.data(), repaired.size());
  }
  // A view without a text (Json::str() of something missing) is the empty string; yyjson would refuse the null pointer.
  return yyjson_mut_strncpy(doc, text.data() == nullptr ? "" : text.data(), text.size());
}

// yyjson parses without recursion, but its copy and compare functions, and our walkers, recurse.
bool too_deep(std::string_view text) {
  // What opens no more than the limit cannot be deeper than it; this settles nearly every text in a few nanoseconds.
  std::size_t opened = 0;
  for (const char bracket : {'{', '['})
    for (std::size_t at = text.find(bracket); at != std::string_view::npos && opened <= kDepthMax; at = text.find(bracket, at + 1)) ++opened;
  if (opened <= kDepthMax) return false;
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kDepthMax) return true;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return false;
}

Result<yyjson_doc*> read(std::string_view text) {
  if (too_deep(text)) return Fail({Errc::Invalid, std::format("JSON is nested deeper than {} levels", kDepthMax)});
  yyjson_read_err error{};
  yyjson_doc* doc = yyjson_read_opts(const_cast<char*>(text.data()), text.size(), YYJSON_READ_NOFLAG, nullptr, &error);
  if (doc == nullptr) return Fail({Errc::Invalid, std::format("JSON: {} at byte {}", error.msg, error.pos)});
  return doc;
}

template <class F>
std::int64_t integer_of(bool is_uint, bool is_sint, bool is_real, F value, std::int64_t otherwise) {
  if (is_uint) {
    const std::uint64_t u = value.u();
    return u <= static_cast<std::uint64_t>(INT64_MAX) ? static_cast<std::int64_t>(u) : otherwise;
  }
  if (is_sint) return value.s();
  if (is_real) {
    const double r = value.r();
    if (std::trunc(r) == r && std::fabs(r) < 9.2e18) return static_cast<std::int64_t>(r);
  }
  return otherwise;
}

struct Number {
  yyjson_val* v;
  std::uint64_t u() const { return yyjson_get_uint(v); }
  std::int64_t s() const { return yyjson_get_sint(v); }
  double r() const { return yyjson_get_real(v); }
};
struct MutNumber {
  yyjson_mut_val* v;
  std::uint64_t u() const { return yyjson_mut_get_uint(v); }
  std::int64_t s() const { return yyjson_mut_get_sint(v); }
  double r() const { return yyjson_mut_get_real(v); }
};

JsonKind kind_of(yyjson_type type, bool is_real) {
  switch (type) {
    case YYJSON_TYPE_NULL: return JsonKind::Null;
    case YYJSON_TYPE_BOOL: return JsonKind::Bool;
    case YYJSON_TYPE_NUM: return is_real ? JsonKind::Real : JsonKind::Integer;
    case YYJSON_TYPE_STR: return JsonKind::String;
    case YYJSON_TYPE_ARR: return JsonKind::Array;
    case YYJSON_TYPE_OBJ: return JsonKind::Object;
    default: return JsonKind::Missing;
  }
}

template <class J>
J walk(J at, std::string_view dotted) {
  while (at && !dotted.empty()) {
    const auto dot = dotted.find('.');
    at = at[dotted.substr(0, dot)];
    if (dot == std::string_view::npos) break;
    dotted.remove_prefix(dot + 1);
  }
  return at;
}

}  // namespace

// ---- Json

JsonKind Json::kind() const {
  if (value_ == nullptr) return JsonKind::Missing;
  return kind_of(yyjson_get_type(value_), yyjson_is_real(value_));
}

Json Json::operator[](std::string_view key) const {
  if (!yyjson_is_obj(value_)) return {};
  Json found;
  std::size_t i, n;
  yyjson_val *k, *v;
  yyjson_obj_foreach(value_, i, n, k, v) {
    if (yyjson_get_len(k) == key.size() && std::string_view(yyjson_get_str(k), key.size()) == key) found = Json(v);
  }
  return found;
}
Json Json::operator[](std::size_t index) const { return Json(yyjson_arr_get(value_, index)); }
Json Json::path(std::string_view dotted) const { return walk(*this, dotted); }
std::size_t Json::size() const {
  if (yyjson_is_arr(value_)) return yyjson_arr_size(value_);
  return yyjson_is_obj(value_) ? yyjson_obj_size(value_) : 0;
}
std::string_view Json::str(std::string_view otherwise) const {
  return yyjson_is_str(value_) ? std::string_view(yyjson_get_str(value_), yyjson_get_len(value_)) : otherwise;
}
std::int64_t Json::i64(std::int64_t otherwise) const {
  return integer_of(yyjson_is_uint(value_), yyjson_is_sint(value_), yyjson_is_real(value_), Number{value_}, otherwise);
}
double Json::real(double otherwise) const { return yyjson_is_num(value_) ? yyjson_get_num(value_) : otherwise; }
bool Json::boolean(bool otherwise) const { return yyjson_is_bool(value_) ? yyjson_get_bool(value_) : otherwise; }
std::string Json::dump() const {
  if (value_ == nullptr) return "null";
  std::size_t length = 0;
  char* text = yyjson_val_write(value_, YYJSON_WRITE_NOFLAG, &length);
  return take_dump(text, length);
}
bool Json::equals(Json other) const {
  if (value_ == nullptr || other.value_ == nullptr) return value_ == other.value_;
  return yyjson_equals(value_, other.value_);
}

Json::Items Json::items() const { return {yyjson_is_arr(value_) ? value_ : nullptr}; }
Json::Members Json::members() const { return {yyjson_is_obj(value_) ? value_ : nullptr}; }
Json::Items::Iterator Json::Items::begin() const {
  const std::size_t n = array == nullptr ? 0 : yyjson_arr_size(array);
  return {n == 0 ? nullptr : yyjson_arr_get_first(array), n};
}
Json::Items::Iterator& Json::Items::Iterator::operator++() {
  if (--left > 0) at = unsafe_yyjson_get_next(at);
  return *this;
}
Json::Members::Iterator Json::Members::begin() const {
  const std::size_t n = object == nullptr ? 0 : yyjson_obj_size(object);
  return {n == 0 ? nullptr : unsafe_yyjson_get_first(object), n};
}
Json::Members::Iterator& Json::Members::Iterator::operator++() {
  if (--left > 0) key = unsafe_yyjson_get_next(key + 1);
  return *this;
}
JsonMember Json::Members::Iterator::operator*() const {
  return {{yyjson_get_str(key), yyjson_get_len(key)}, Json(key + 1)};
}

// ---- JsonDoc

void JsonDoc::Free::operator()(yyjson_doc* doc) const { yyjson_doc_free(doc); }
Result<JsonDoc> JsonDoc::parse(std::string_view text) {
  TRY(yyjson_doc * doc, read(text));
  return JsonDoc(doc);
}
Json JsonDoc::root() const { return Json(yyjson_doc_get_root(doc_.get())); }

// ---- MutJson

JsonKind MutJson::kind() const {
  if (value_ == nullptr) return JsonKind::Missing;
  return kind_of(yyjson_mut_get_type(value_), yyjson_mut_is_real(value_));
}
std::size_t MutJson::size() const {
  if (yyjson_mut_is_arr(value_)) return yyjson_mut_arr_size(value_);
  return yyjson_mut_is_obj(value_) ? yyjson_mut_obj_size(value_) : 0;
}
std::string_view MutJson::str(std::string_view otherwise) const {
  return yyjson_mut_is_str(value_) ? std::string_view(yyjson_mut_get_str(value_), yyjson_mut_get_len(value_)) : otherwise;
}
std::int64_t MutJson::i64(std::int64_t otherwise) const {
  return integer_of(yyjson_mut_is_uint(value_), yyjson_mut_is_sint(value_), yyjson_mut_is_real(value_), MutNumber{value_}, otherwise);
}
bool MutJson::boolean(bool otherwise) const { return yyjson_mut_is_bool(value_) ? yyjson_mut_get_bool(value_) : otherwise; }

MutJson MutJson::operator[](std::string_view key) const {
  return {doc_, yyjson_mut_obj_getn(value_, key.data(), key.size())};
}
MutJson MutJson::operator[](std::size_t index) const { return {doc_, yyjson_mut_arr_get(value_, index)}; }
MutJson MutJson::path(std::string_view dotted) const { return walk(*this, dotted); }

namespace {
void put(yyjson_mut_doc* doc, yyjson_mut_val* object, std::string_view key, yyjson_mut_val* value) {
  CHECK(yyjson_mut_is_obj(object) && value != nullptr);
  if (yyjson_mut_obj_getn(object, key.data(), key.size()) != nullptr) {
    CHECK(yyjson_mut_obj_replace(object, string_value(doc, key), value));
    return;
  }
  CHECK(yyjson_mut_obj_add(object, string_value(doc, key), value));
}
yyjson_mut_val* copy_of(yyjson_mut_doc* doc, Json value) {
  return value ? yyjson_val_mut_copy(doc, value.raw()) : yyjson_mut_null(doc);
}
yyjson_mut_val* copy_of(yyjson_mut_doc* doc, MutJson value) {
  return value ? yyjson_mut_val_mut_copy(doc, value.raw()) : yyjson_mut_null(doc);
}
}  // namespace

MutJson MutJson::object(std::string_view key) {
  if (const MutJson existing = (*this)[key]; existing.is_object()) return existing;
  put(doc_, value_, key, yyjson_mut_obj(doc_));
  return (*this)[key];
}
MutJson MutJson::array(std::string_view key) {
  if (const MutJson existing = (*this)[key]; existing.is_array()) return existing;
  put(doc_, value_, key, yyjson_mut_arr(doc_));
  return (*this)[key];
}
void MutJson::set(std::string_view key, std::string_view v) { put(doc_, value_, key, string_value(doc_, v)); }
void MutJson::set(std::string_view key, std::int64_t v) { put(doc_, value_, key, yyjson_mut_sint(doc_, v)); }
void MutJson::set(std::string_view key, bool v) { put(doc_, value_, key, yyjson_mut_bool(doc_, v)); }
void MutJson::set(std::string_view key, double v) { put(doc_, value_, key, yyjson_mut_real(doc_, v)); }
void MutJson::set(std::string_view key, Json v) { put(doc_, value_, key, copy_of(doc_, v)); }
void MutJson::set(std::string_view key, MutJson v) { put(doc_, value_, key, copy_of(doc_, v)); }
void MutJson::set_null(std::string_view key) { put(doc_, value_, key, yyjson_mut_null(doc_)); }
namespace {
yyjson_mut_val* put_new(yyjson_mut_doc* doc, yyjson_mut_val* object, std::string_view key, yyjson_mut_val* value) {
  CHECK(yyjson_mut_obj_add(object, string_value(doc, key), value));
  return value;
}
}  // namespace
void MutJson::append(std::string_view key, std::string_view v) {
  put_new(doc_, value_, key, string_value(doc_, v));
}
void MutJson::append(std::string_view key, std::int64_t v) { put_new(doc_, value_, key, yyjson_mut_sint(doc_, v)); }
void MutJson::append(std::string_view key, bool v) { put_new(doc_, value_, key, yyjson_mut_bool(doc_, v)); }
void MutJson::append(std::string_view key, double v) { put_new(doc_, value_, key, yyjson_mut_real(doc_, v)); }
void MutJson::append(std::string_view key, Json v) { put_new(doc_, value_, key, copy_of(doc_, v)); }
void MutJson::append(std::string_view key, MutJson v) { put_new(doc_, value_, key, copy_of(doc_, v)); }
MutJson MutJson::append_object(std::string_view key) { return {doc_, put_new(doc_, value_, key, yyjson_mut_obj(doc_))}; }
MutJson MutJson::append_array(std::string_view key) { return {doc_, put_new(doc_, value_, key, yyjson_mut_arr(doc_))}; }
bool MutJson::remove(std::string_view key) {
  return yyjson_mut_is_obj(value_) && yyjson_mut_obj_remove_strn(value_, key.data(), key.size()) != nullptr;
}
void MutJson::rename(std::string_view from, std::string_view to) {
  yyjson_mut_obj_rename_keyn(doc_, value_, from.data(), from.size(), to.data(), to.size());
}
void MutJson::clear() {
  if (yyjson_mut_is_obj(value_)) yyjson_mut_obj_clear(value_);
  else yyjson_mut_arr_clear(value_);
}

void MutJson::push(std::string_view v) { CHECK(yyjson_mut_arr_append(value_, string_value(doc_, v))); }
void MutJson::push(std::int64_t v) { CHECK(yyjson_mut_arr_append(value_, yyjson_mut_sint(doc_, v))); }
void MutJson::push(Json v) { CHECK(yyjson_mut_arr_append(value_, copy_of(doc_, v))); }
void MutJson::push(MutJson v) { CHECK(yyjson_mut_arr_append(value_, copy_of(doc_, v))); }
MutJson MutJson::push_object() {
  yyjson_mut_val* v = yyjson_mut_obj(doc_);
  CHECK(yyjson_mut_arr_append(value_, v));
  return {doc_, v};
}
MutJson MutJson::push_array() {
  yyjson_mut_val* v = yyjson_mut_arr(doc_);
  CHECK(yyjson_mut_arr_append(value_, v));
  return {doc_, v};
}
void MutJson::insert(std::size_t index, MutJson v) { CHECK(yyjson_mut_arr_insert(value_, copy_of(doc_, v), index)); }
void MutJson::erase(std::size_t index) { CHECK(yyjson_mut_arr_remove(value_, index) != nullptr); }
void MutJson::replace(std::size_t index, MutJson v) { CHECK(yyjson_mut_arr_replace(value_, index, copy_of(doc_, v)) != nullptr); }

void MutJson::assign(MutJson v) {
  // A value's tag and payload are position independent; the `next` link stays this value's own.
  const yyjson_mut_val* copy = copy_of(doc_, v);
  value_->tag = copy->tag;
  value_->uni = copy->uni;
}
void MutJson::assign(Json v) {
  const yyjson_mut_val* copy = copy_of(doc_, v);
  value_->tag = copy->tag;
  value_->uni = copy->uni;
}

std::string MutJson::dump() const {
  if (value_ == nullptr) return "null";
  std::size_t length = 0;
  char* text = yyjson_mut_val_write(value_, YYJSON_WRITE_NOFLAG, &length);
  return take_dump(text, length);
}
bool MutJson::equals(MutJson other) const {
  if (value_ == nullptr || other.value_ == nullptr) return value_ == other.value_;
  return yyjson_mut_equals(value_, other.value_);
}

MutJson::Items MutJson::items() const { return {doc_, yyjson_mut_is_arr(value_) ? value_ : nullptr}; }
MutJson::Members MutJson::members() const { return {doc_, yyjson_mut_is_obj(value_) ? value_ : nullptr}; }
MutJson::Items::Iterator MutJson::Items::begin() const {
  const std::size_t n = array == nullptr ? 0 : yyjson_mut_arr_size(array);
  return {doc, n == 0 ? nullptr : yyjson_mut_arr_get_first(array), n};
}
MutJson::Items::Iterator& MutJson::Items::Iterator::operator++() {
  if (--left > 0) at = at->next;
  return *this;
}
MutJson::Members::Iterator MutJson::Members::begin() const {
  const std::size_t n = object == nullptr ? 0 : yyjson_mut_obj_size(object);
  // The container points at its last key; the list is a ring of key, value, key, value.
  return {doc, n == 0 ? nullptr : static_cast<yyjson_mut_val*>(object->uni.ptr)->next->next, n};
}
MutJson::Members::Iterator& MutJson::Members::Iterator::operator++() {
  if (--left > 0) key = key->next->next;
  return *this;
}
MutJson::Member MutJson::Members::Iterator::operator*() const {
  return {{yyjson_mut_get_str(key), yyjson_mut_get_len(key)}, {doc, key->next}};
}

// ---- JsonEdit

void JsonEdit::Free::operator()(yyjson_mut_doc* doc) const { yyjson_mut_doc_free(doc); }
JsonEdit::JsonEdit() : doc_(yyjson_mut_doc_new(nullptr)) { yyjson_mut_doc_set_root(doc_.get(), yyjson_mut_obj(doc_.get())); }
JsonEdit JsonEdit::array() {
  JsonEdit edit;
  yyjson_mut_doc_set_root(edit.doc_.get(), yyjson_mut_arr(edit.doc_.get()));
  return edit;
}
JsonEdit JsonEdit::copy(Json value) {
  JsonEdit edit(yyjson_mut_doc_new(nullptr));
  yyjson_mut_doc_set_root(edit.doc_.get(), copy_of(edit.doc_.get(), value));
  return edit;
}
JsonEdit JsonEdit::copy(MutJson value) {
  JsonEdit edit(yyjson_mut_doc_new(nullptr));
  yyjson_mut_doc_set_root(edit.doc_.get(), copy_of(edit.doc_.get(), value));
  return edit;
}
Result<JsonEdit> JsonEdit::parse(std::string_view text) {
  TRY(const auto doc, JsonDoc::parse(text));
  return copy(doc.root());
}
MutJson JsonEdit::root() const { return {doc_.get(), yyjson_mut_doc_get_root(doc_.get())}; }
std::string JsonEdit::dump() const { return root().dump(); }
JsonDoc JsonEdit::freeze() const {
  auto parsed = JsonDoc::parse(dump());
  CHECK(parsed.has_value());
  return std::move(*parsed);
}

std::string json_quote(std::string_view text) {
  JsonEdit edit = JsonEdit::array();
  edit.root().push(text);
  return edit.root()[std::size_t{0}].dump();
}

}  // namespace skerry::kube
