// SPDX-License-Identifier: Apache-2.0
#include "kube/protobuf.h"

#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <format>
#include <vector>

#include "base/check.h"
#include "base/text.h"
#include "base/time.h"
#include "kube/quantity.h"

namespace skerry::kube {
namespace {

constexpr std::string_view kMagic("k8s\0", 4);
constexpr int kDepthMax = 64;

enum class Wire : std::uint8_t { Varint = 0, Fixed64 = 1, Bytes = 2, Fixed32 = 5 };

Error corrupt(std::string_view what) { return {Errc::Invalid, std::format("protobuf body: {}", what)}; }

struct Value {
  std::uint32_t tag = 0;
  Wire wire{};
  std::uint64_t number = 0;    // Varint, Fixed32, Fixed64
  std::string_view bytes;      // Bytes
};

// Reads the fields of one message.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  bool done() const { return rest_.empty(); }

  Result<Value> next() {
    TRY(const std::uint64_t key, varint());
    Value v;
    if ((key >> 3) == 0 || (key >> 3) > 0x1fffffff) return Fail(corrupt(std::format("tag {} is out of range", key >> 3)));
    v.tag = static_cast<std::uint32_t>(key >> 3);
    switch (key & 7) {
      case 0: {
        TRY(v.number, varint());
        v.wire = Wire::Varint;
        return v;
      }
      case 1: {
        TRY(const std::string_view b, take(8));
        std::memcpy(&v.number, b.data(), 8);  // little endian on all our machines
        v.wire = Wire::Fixed64;
        return v;
      }
      case 2: {
        TRY(const std::uint64_t size, varint());
        TRY(v.bytes, take(size));
        v.wire = Wire::Bytes;
        return v;
      }
      case 5: {
        TRY(const std::string_view b, take(4));
        std::memcpy(&v.number, b.data(), 4);
        v.wire = Wire::Fixed32;
        return v;
      }
      default: return Fail(corrupt(std::format("field {} has wire type {}, which Kubernetes never sends", v.tag, key & 7)));
    }
  }

  Result<std::uint64_t> varint() {
    std::uint64_t out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return Fail(corrupt("ends inside a number"));
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      out |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return out;
    }
    return Fail(corrupt("a number has more than ten bytes"));
  }

 private:
  Result<std::string_view> take(std::uint64_t size) {
    if (size > rest_.size()) return Fail(corrupt(std::format("a field of {} bytes, but only {} are left", size, rest_.size())));
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return out;
  }
  std::string_view rest_;
};
static_assert(std::endian::native == std::endian::little);

bool valid_utf8(std::string_view s) {
  for (std::size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    std::size_t more = 0;
    if (c < 0x80) { ++i; continue; }
    if (c >= 0xc2 && c <= 0xdf) more = 1;
    else if ((c & 0xf0) == 0xe0) more = 2;
    else if (c >= 0xf0 && c <= 0xf4) more = 3;
    else return false;
    if (i + more >= s.size()) return false;
    for (std::size_t k = 1; k <= more; ++k)
      if ((static_cast<unsigned char>(s[i + k]) & 0xc0) != 0x80) return false;
    const auto second = static_cast<unsigned char>(s[i + 1]);
    if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second > 0x9f) || (c == 0xf0 && second < 0x90) || (c == 0xf4 && second > 0x8f))
      return false;
    i += more + 1;
  }
  return true;
}

// Puts protobuf values into a mutable tree.
class ToJson {
 public:
  Result<> message(Message m, std::uint32_t inline_tag, std::string_view raw, MutJson out, int depth) {
    if (depth > kDepthMax) return Fail(corrupt(std::format("nested deeper than {} messages", kDepthMax)));
    Reader reader(raw);
    while (!reader.done()) {
      TRY(const Value v, reader.next());
      if (inline_tag == 0 && m.has_inline(v.tag)) {
        TRY_OK(expect(v, Wire::Bytes, m, v.tag));
        TRY_OK(message(m, v.tag, v.bytes, out, depth + 1));
        continue;
      }
      const Field f = m.find_tag(inline_tag, v.tag);
      if (!f) continue;
      TRY_OK(field(m, f, v, out, depth));
    }
    return {};
  }

 private:
  static Result<> expect(const Value& v, Wire wire, Message m, std::uint32_t tag) {
    if (v.wire == wire) return {};
    return Fail(corrupt(std::format("field {} of {} has the wrong wire type", tag, m.short_name())));
  }

  Result<> field(Message m, Field f, const Value& v, MutJson out, int depth) {
    switch (f.shape()) {
      case Shape::Single: return put(m, f, v, depth, Slot{out, f.name(), Place::Member});
      case Shape::List: {
        MutJson list = out.array(f.name());
        if (v.wire == Wire::Bytes && is_number(f.type())) {  // packed
          Reader packed(v.bytes);
          while (!packed.done()) {
            Value element{v.tag, Wire::Varint, 0, {}};
            TRY(element.number, packed.varint());
            TRY_OK(put(m, f, element, depth, Slot{list, {}, Place::List}));
          }
          return {};
        }
        return put(m, f, v, depth, Slot{list, {}, Place::List});
      }
      case Shape::Map: break;
    }
    TRY_OK(expect(v, Wire::Bytes, m, f.tag()));
    Reader entry(v.bytes);
    std::string_view key;
    Value value{2, f.type() == FieldType::Bool || is_number(f.type()) ? Wire::Varint : Wire::Bytes, 0, {}};
    while (!entry.done()) {
      TRY(const Value part, entry.next());
      if (part.tag == 1) {
        TRY_OK(expect(part, Wire::Bytes, m, f.tag()));
        key = part.bytes;
      } else if (part.tag == 2) {
        value = part;
      }
    }
    if (!valid_utf8(key)) return Fail(corrupt(std::format("a key of {} is not UTF-8", f.name())));
    return put(m, f, value, depth, Slot{out.object(f.name()), key, Place::Map});
  }

  static bool is_number(FieldType t) {
    return t == FieldType::Int32 || t == FieldType::Int64 || t == FieldType::UInt32 || t == FieldType::UInt64;
  }

  // Takes a value: a member of an object, the end of a list, or an entry of a map. Map entries are not looked up first, which
  // would be quadratic; of duplicates the last wins in canonical().
  enum class Place { Member, List, Map };
  struct Slot {
    MutJson in;
    std::string_view key;
    Place place;
    template <class T>
    void operator()(T value) {
      if (place == Place::List) in.push(value);
      else if (place == Place::Map) in.append(key, value);
      else in.set(key, value);
    }
    bool list() const { return place == Place::List; }
    MutJson object() {
      if (place == Place::List) return in.push_object();
      return place == Place::Map ? in.append_object(key) : in.object(key);
    }
    MutJson array() {
      if (place == Place::List) return in.push_array();
      return place == Place::Map ? in.append_array(key) : in.array(key);
    }
  };

  Result<> put(Message m, Field f, const Value& v, int depth, Slot slot) {
    switch (f.type()) {
      case FieldType::Int32: case FieldType::UInt32: case FieldType::Int64: case FieldType::UInt64: case FieldType::Bool:
        TRY_OK(expect(v, Wire::Varint, m, f.tag()));
        return number(f, v.number, slot);
      case FieldType::Float: case FieldType::Double: return real(m, f, v, slot);
      default: break;
    }
    TRY_OK(expect(v, Wire::Bytes, m, f.tag()));
    switch (f.type()) {
      case FieldType::String:
        if (!valid_utf8(v.bytes)) return Fail(corrupt(std::format("{}.{} is not UTF-8", m.short_name(), f.name())));
        slot(v.bytes);
        return {};
      case FieldType::Bytes: slot(std::string_view(to_base64(v.bytes))); return {};
      case FieldType::Message: return message(f.message(), 0, v.bytes, slot.object(), depth + 1);
      case FieldType::Time: case FieldType::MicroTime: return time(f, v.bytes, slot);
      case FieldType::Quantity: return quantity(f, v.bytes, slot);
      case FieldType::IntOrString: return int_or_string(f, v.bytes, slot);
      case FieldType::RawExtension: case FieldType::FieldsV1: return raw_json(f, v.bytes, slot);
      case FieldType::StringList: return string_list(f, v.bytes, slot);
      case FieldType::Duration: return duration(v.bytes, slot);
      default: return Fail(corrupt("a type that the schema does not have"));
    }
  }

  static Result<> number(Field f, std::uint64_t n, Slot slot) {
    if (f.type() == FieldType::Bool) {
      if (slot.list()) return Fail(corrupt("a list of booleans, which Kubernetes does not have"));
      slot.in.set(slot.key, n != 0);
    } else if (f.type() == FieldType::Int32) {
      slot(static_cast<std::int64_t>(static_cast<std::int32_t>(static_cast<std::uint32_t>(n))));
    } else if (f.type() == FieldType::UInt32) {
      slot(static_cast<std::int64_t>(static_cast<std::uint32_t>(n)));
    } else {
      slot(static_cast<std::int64_t>(n));
    }
    return {};
  }
  static Result<> real(Message m, Field f, const Value& v, Slot slot) {
    const bool is_double = f.type() == FieldType::Double;
    TRY_OK(expect(v, is_double ? Wire::Fixed64 : Wire::Fixed32, m, f.tag()));
    if (slot.list()) return Fail(corrupt("a list of reals, which Kubernetes does not have"));
    const double value = is_double ? std::bit_cast<double>(v.number)
                                   : static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(v.number)));
    if (!(value - value == 0)) return Fail(corrupt(std::format("{} is not a finite number", f.name())));
    slot.in.set(slot.key, value);
    return {};
  }
  static Result<> time(Field f, std::string_view bytes, Slot slot) {
    if (bytes.empty()) return {};  // the zero time
    Reader reader(bytes);
    std::int64_t seconds = 0, nanos = 0;
    while (!reader.done()) {
      TRY(const Value v, reader.next());
      if (v.wire != Wire::Varint) continue;
      if (v.tag == 1) seconds = static_cast<std::int64_t>(v.number);
      if (v.tag == 2) nanos = static_cast<std::int32_t>(static_cast<std::uint32_t>(v.number));
    }
    if (seconds == -62135596800) return {};  // Go's zero time
    if (seconds < -9'000'000'000 || seconds > 9'000'000'000 || nanos < 0 || nanos >= 1'000'000'000)
      return Fail(corrupt(std::format("{} is a time outside of 1684 to 2255", f.name())));
    const Time t{std::chrono::seconds(seconds) + std::chrono::nanoseconds(nanos)};
    slot(std::string_view(f.type() == FieldType::MicroTime ? to_rfc3339_micro(t) : to_rfc3339(t)));
    return {};
  }
  static Result<> quantity(Field f, std::string_view bytes, Slot slot) {
    Reader reader(bytes);
    std::string_view text;
    while (!reader.done()) {
      TRY(const Value v, reader.next());
      if (v.tag == 1 && v.wire == Wire::Bytes) text = v.bytes;
    }
    if (text.empty()) text = "0";
    const auto parsed = Quantity::parse(text);
    if (!parsed) return Fail(corrupt(std::format("{}: {}", f.name(), kQuantityError)));
    slot(std::string_view(parsed->str()));
    return {};
  }
  static Result<> int_or_string(Field f, std::string_view bytes, Slot slot) {
    Reader reader(bytes);
    std::uint64_t type = 0, number = 0;
    std::string_view text;
    while (!reader.done()) {
      TRY(const Value v, reader.next());
      if (v.tag == 1 && v.wire == Wire::Varint) type = v.number;
      if (v.tag == 2 && v.wire == Wire::Varint) number = v.number;
      if (v.tag == 3 && v.wire == Wire::Bytes) text = v.bytes;
    }
    if (type == 0) {
      slot(static_cast<std::int64_t>(static_cast<std::int32_t>(static_cast<std::uint32_t>(number))));
      return {};
    }
    if (!valid_utf8(text)) return Fail(corrupt(std::format("{} is not UTF-8", f.name())));
    slot(text);
    return {};
  }
  static Result<> raw_json(Field f, std::string_view bytes, Slot slot) {
    Reader reader(bytes);
    std::string_view text;
    while (!reader.done()) {
      TRY(const Value v, reader.next());
      if (v.tag == 1 && v.wire == Wire::Bytes) text = v.bytes;
    }
    if (text.empty()) return {};
    auto doc = JsonDoc::parse(text);
    if (!doc) return Fail(doc.error().with(f.name()));
    slot(doc->root());
    return {};
  }
  static Result<> string_list(Field f, std::string_view bytes, Slot slot) {
    MutJson list = slot.array();
    Reader reader(bytes);
    while (!reader.done()) {
      TRY(const Value v, reader.next());
      if (v.tag != 1 || v.wire != Wire::Bytes) continue;
      if (!valid_utf8(v.bytes)) return Fail(corrupt(std::format("{} is not UTF-8", f.name())));
      list.push(v.bytes);
    }
    return {};
  }
  static Result<> duration(std::string_view bytes, Slot slot) {
    Reader reader(bytes);
    std::int64_t nanos = 0;
    while (!reader.done()) {
      TRY(const Value v, reader.next());
      if (v.tag == 1 && v.wire == Wire::Varint) nanos = static_cast<std::int64_t>(v.number);
    }
    slot(std::string_view(std::format("{}ns", nanos)));
    return {};
  }
};

// ---- writing

void put_varint(std::string& out, std::uint64_t v) {
  for (; v >= 0x80; v >>= 7) out += static_cast<char>(v | 0x80);
  out += static_cast<char>(v);
}
void put_key(std::string& out, std::uint32_t tag, Wire wire) { put_varint(out, std::uint64_t{tag} << 3 | static_cast<std::uint64_t>(wire)); }
void put_number(std::string& out, std::uint32_t tag, std::int64_t v) {
  put_key(out, tag, Wire::Varint);
  put_varint(out, static_cast<std::uint64_t>(v));
}
void put_bytes(std::string& out, std::uint32_t tag, std::string_view bytes) {
  put_key(out, tag, Wire::Bytes);
  put_varint(out, bytes.size());
  out += bytes;
}

Result<> write_message(Message m, Json value, std::string& out);

Result<> write_single(Field f, std::uint32_t tag, Json v, std::string& out) {
  const auto wrong = [&] { return Fail(Error{Errc::Invalid, std::format("{} has the wrong type for protobuf: {}", f.name(), v.dump().substr(0, 60))}); };
  std::string inner;
  switch (f.type()) {
    case FieldType::String:
      if (!v.is_string()) return wrong();
      put_bytes(out, tag, v.str());
      return {};
    case FieldType::Bytes: {
      const auto decoded = from_base64(v.str());
      if (!v.is_string() || !decoded) return wrong();
      put_bytes(out, tag, *decoded);
      return {};
    }
    case FieldType::Bool:
      if (!v.is_bool()) return wrong();
      put_number(out, tag, v.boolean() ? 1 : 0);
      return {};
    case FieldType::Int32: case FieldType::Int64: case FieldType::UInt32: case FieldType::UInt64:
      if (!v.is_integer()) return wrong();
      put_number(out, tag, v.i64());
      return {};
    case FieldType::Float: case FieldType::Double: {
      if (!v.is_number()) return wrong();
      const bool is_double = f.type() == FieldType::Double;
      put_key(out, tag, is_double ? Wire::Fixed64 : Wire::Fixed32);
      const std::uint64_t bits =
          is_double ? std::bit_cast<std::uint64_t>(v.real()) : std::bit_cast<std::uint32_t>(static_cast<float>(v.real()));
      for (unsigned i = 0; i < (is_double ? 8U : 4U); ++i) out += static_cast<char>(bits >> (8 * i));
      return {};
    }
    case FieldType::Message:
      if (!v.is_object()) return wrong();
      TRY_OK(write_message(f.message(), v, inner));
      break;
    case FieldType::Time: case FieldType::MicroTime: {
      const auto t = from_rfc3339(v.str());
      if (!t) return wrong();
      const auto seconds = std::chrono::floor<std::chrono::seconds>(*t);
      put_number(inner, 1, seconds.time_since_epoch().count());
      put_number(inner, 2, f.type() == FieldType::MicroTime ? (*t - seconds).count() : 0);
      break;
    }
    case FieldType::Duration: {
      const auto d = parse_duration(v.str());
      if (!d) return wrong();
      put_number(inner, 1, d->count());
      break;
    }
    case FieldType::Quantity: put_bytes(inner, 1, v.is_string() ? std::string(v.str()) : v.dump()); break;
    case FieldType::IntOrString:
      put_number(inner, 1, v.is_string() ? 1 : 0);
      put_number(inner, 2, v.i64());
      put_bytes(inner, 3, v.str());
      break;
    case FieldType::RawExtension: case FieldType::FieldsV1: put_bytes(inner, 1, v.dump()); break;
    case FieldType::StringList:
      for (const Json item : v.items()) put_bytes(inner, 1, item.str());
      break;
  }
  put_bytes(out, tag, inner);
  return {};
}

Result<> write_field(Field f, Json v, std::string& out) {
  if (v.is_null()) return {};
  switch (f.shape()) {
    case Shape::Single: return write_single(f, f.tag(), v, out);
    case Shape::List:
      for (const Json item : v.items()) TRY_OK(write_single(f, f.tag(), item, out));
      return {};
    case Shape::Map:
      for (const auto [key, item] : v.members()) {
        std::string entry;
        put_bytes(entry, 1, key);
        TRY_OK(write_single(f, 2, item, entry));
        put_bytes(out, f.tag(), entry);
      }
      return {};
  }
  return {};
}

Result<> write_message(Message m, Json value, std::string& out) {
  std::uint32_t open_inline = 0;  // members of one inline message are neighbours in the table
  std::string inline_bytes;
  const auto close_inline = [&] {
    if (open_inline != 0 && !inline_bytes.empty()) put_bytes(out, open_inline, inline_bytes);
    open_inline = 0;
    inline_bytes.clear();
  };
  for (std::size_t i = 0; i < m.field_count(); ++i) {
    const Field f = m.field(i);
    if (f.has(table::kTypeMeta)) continue;
    if (f.inline_tag() != open_inline) close_inline();
    const Json v = value[f.name()];
    if (!v) continue;
    open_inline = f.inline_tag();
    TRY_OK(write_field(f, v, open_inline == 0 ? out : inline_bytes));
  }
  close_inline();
  return {};
}

}  // namespace

Result<ProtobufEnvelope> open_envelope(std::string_view bytes) {
  if (!bytes.starts_with(kMagic))
    return Fail(corrupt("the first bytes are not those of application/vnd.kubernetes.protobuf (k8s\\0)"));
  ProtobufEnvelope out;
  Reader unknown(bytes.substr(kMagic.size()));
  while (!unknown.done()) {
    TRY(const Value v, unknown.next());
    if (v.wire != Wire::Bytes) continue;
    if (v.tag == 2) out.raw = v.bytes;
    if (v.tag == 3 && !v.bytes.empty()) return Fail(corrupt(std::format("content encoding {} is not served", json_quote(v.bytes))));
    if (v.tag != 1) continue;
    Reader type_meta(v.bytes);
    while (!type_meta.done()) {
      TRY(const Value part, type_meta.next());
      if (part.wire != Wire::Bytes) continue;
      if (!valid_utf8(part.bytes)) return Fail(corrupt("kind or apiVersion is not UTF-8"));
      if (part.tag == 1) out.api_version = part.bytes;
      if (part.tag == 2) out.kind = part.bytes;
    }
  }
  return out;
}

std::string make_envelope(std::string_view api_version, std::string_view kind, std::string_view raw) {
  std::string type_meta, unknown(kMagic);
  put_bytes(type_meta, 1, api_version);
  put_bytes(type_meta, 2, kind);
  put_bytes(unknown, 1, type_meta);
  put_bytes(unknown, 2, raw);
  put_bytes(unknown, 3, "");
  put_bytes(unknown, 4, "");
  return unknown;
}

Result<JsonEdit> protobuf_to_json(Message m, std::string_view raw) {
  JsonEdit out;
  ToJson walker;
  TRY_OK(walker.message(m, 0, raw, out.root(), 0));
  return out;
}

Result<std::string> json_to_protobuf(Message m, Json value) {
  std::string out;
  TRY_OK(write_message(m, value, out));
  return out;
}

}  // namespace skerry::kube
