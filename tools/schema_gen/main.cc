// SPDX-License-Identifier: Apache-2.0
// schema_gen GO_ROOT DESCRIPTOR_SET OUT.cc ROOT_MESSAGE…
//
// Writes the schema table (src/kube/schema_table.h) for the root messages and all that they refer to. Reads
// - the descriptor set that protoc made with --include_source_info: fields, types, tags and, in the comments, the markers
//   (+patchMergeKey, +listType, +default …) and the text for `kubectl explain`;
// - types.go beside each generated.proto, line by line: the json tag of each field (name, inline, omitempty), whether it
//   is a pointer, its Go type (error messages name it), and +genclient:nonNamespaced.
// Fails, naming the field, on anything that it does not understand: a wrong table is worse than no build.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <format>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "kube/schema_hash.h"

namespace pb = google::protobuf;
using skerry::kube::field_hash;

namespace {

[[noreturn]] void fail(const std::string& text) {
  std::cerr << "schema_gen: " << text << "\n";
  std::exit(1);
}

struct GoField {
  std::string go_type;  // as written, without the leading '*'
  std::string json;     // empty when inline
  bool pointer = false, omitempty = false, is_inline = false, type_meta = false;
  int tag = 0;
  std::string marker_text;
};
struct GoStruct {
  std::vector<GoField> fields;
  bool cluster_scoped = false, genclient = false;
};
struct GoPackage {
  std::map<std::string, GoStruct> structs;
  std::map<std::string, std::string> constants;  // Name -> "value", for +default=ref(Name)
};

GoPackage read_go(const std::filesystem::path& folder) {
  GoPackage package;
  static const std::regex struct_re(R"(^type (\w+) struct \{)");
  static const std::regex field_re(R"re(^\t(?:(\w+)\s+)?(\*?)([\w.\[\]*]+)\s+`(.*)`.*$)re");
  static const std::regex json_re(R"re(json:"([^"]*)")re");
  static const std::regex proto_re(R"re(protobuf:"[a-z0-9]+,(\d+),)re");
  static const std::regex const_re(R"re(^\s*(?:const )?(\w+)\s+[\w.]+\s*=\s*("[^"]*").*$)re");
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string file = entry.path().filename().string();
    if (!file.ends_with(".go") || file.ends_with("_test.go") || file.starts_with("zz_generated") ||
        file.ends_with(".pb.go") || file.contains("swagger_doc"))
      continue;  // nearly everything is in types.go; meta/v1 has watch.go too
    std::ifstream in(entry.path());
    std::string line, comment;
    GoStruct* current = nullptr;
    while (std::getline(in, line)) {
      std::smatch m;
      if (current == nullptr) {
        if (line.starts_with("//")) {
          comment += line + "\n";
        } else if (std::regex_search(line, m, struct_re)) {
          GoStruct made;
          made.genclient = comment.contains("+genclient\n");
          made.cluster_scoped = comment.contains("+genclient:nonNamespaced");
          current = &package.structs.insert_or_assign(m[1].str(), made).first->second;
          comment.clear();
        } else {
          if (std::regex_match(line, m, const_re)) package.constants[m[1].str()] = m[2].str();
          if (!line.empty()) comment.clear();
        }
        continue;
      }
      if (line == "}") {
        current = nullptr;
        comment.clear();
        continue;
      }
      if (!std::regex_match(line, m, field_re)) continue;
      const std::string tags = m[4].str();
      GoField field;
      field.pointer = m[2].matched && m[2].length() > 0;
      field.go_type = m[3].str();
      std::smatch t;
      if (!std::regex_search(tags, t, json_re)) continue;
      const std::string json = t[1].str();
      field.json = json.substr(0, json.find(','));
      if (field.json == "-") continue;
      field.omitempty = json.contains(",omitempty");
      field.is_inline = json.contains(",inline");
      if (std::regex_search(tags, t, proto_re)) field.tag = std::stoi(t[1].str());
      field.type_meta = field.is_inline && field.go_type.ends_with("TypeMeta");
      current->fields.push_back(field);
    }
  }
  return package;
}

struct Comment {
  std::string text;
  std::map<std::string, std::vector<std::string>> markers;
  bool has(const std::string& name) const { return markers.contains(name); }
  std::string one(const std::string& name) const { return has(name) ? markers.at(name).front() : ""; }
};

// Text and markers of a leading comment; the text follows openapi-gen: lines of a paragraph are joined by a space, an empty
// line separates paragraphs, everything after "---" is for developers.
Comment parse_comment(const std::string& raw) {
  Comment out;
  std::istringstream in(raw);
  std::string line;
  bool developer = false, gap = false;
  while (std::getline(in, line)) {
    std::string stripped = line.starts_with(' ') ? line.substr(1) : line;
    while (!stripped.empty() && (stripped.back() == ' ' || stripped.back() == '\r')) stripped.pop_back();
    const std::size_t start = stripped.find_first_not_of(' ');
    const std::string body = start == std::string::npos ? "" : stripped.substr(start);
    if (body.starts_with("+")) {
      const std::size_t eq = body.find('=');
      out.markers[body.substr(1, eq == std::string::npos ? eq : eq - 1)].push_back(
          eq == std::string::npos ? "" : body.substr(eq + 1));
      continue;
    }
    if (body == "---") developer = true;
    if (developer || body.starts_with("TODO")) continue;
    if (body.empty()) {
      gap = !out.text.empty();
      continue;
    }
    const bool indented = start > 0;
    if (gap) out.text += "\n\n";
    else if (!out.text.empty()) out.text += indented || out.text.back() == '\n' ? "\n" : " ";
    gap = false;
    out.text += indented ? stripped : body;
  }
  return out;
}

struct FieldOut {
  std::string json, go_type, default_json, merge_key, list_keys, description, type, message;
  std::string shape = "Single", list_type = "Unset", map_type = "Unset";
  std::vector<std::string> flags;
  int tag = 0, inline_tag = 0;
};
struct MessageOut {
  std::string description;
  std::vector<FieldOut> fields;
  std::vector<std::string> flags;
};

class Generator {
 public:
  Generator(std::filesystem::path go_root, const pb::DescriptorPool& pool) : go_root_(std::move(go_root)), pool_(pool) {}

  void add(const std::string& name) {
    if (messages_.contains(name)) return;
    const pb::Descriptor* d = pool_.FindMessageTypeByName(name);
    if (d == nullptr) fail("no message " + name + " in the descriptor set");
    messages_[name];  // reserve: types may refer to themselves
    MessageOut out;
    out.description = comment_of(*d).text;
    const GoStruct& go = go_struct(*d);
    if (go.cluster_scoped) out.flags.push_back("kClusterScoped");
    if (go.genclient) out.flags.push_back("kGenClient");
    add_fields(*d, go, 0, out);
    messages_[name] = std::move(out);
    for (const FieldOut& f : std::vector<FieldOut>(messages_[name].fields))
      if (!f.message.empty()) add(f.message);
  }

  void write(const std::string& path);

 private:
  static Comment comment_of(const pb::Descriptor& d) {
    pb::SourceLocation at;
    return d.GetSourceLocation(&at) ? parse_comment(at.leading_comments) : Comment{};
  }
  static Comment comment_of(const pb::FieldDescriptor& d) {
    pb::SourceLocation at;
    return d.GetSourceLocation(&at) ? parse_comment(at.leading_comments) : Comment{};
  }
  const GoPackage& go_package(const pb::Descriptor& d) {
    const std::string folder = std::filesystem::path(d.file()->name()).parent_path().string();
    const auto it = packages_.find(folder);
    return it != packages_.end() ? it->second : packages_.emplace(folder, read_go(go_root_ / folder)).first->second;
  }
  const GoStruct& go_struct(const pb::Descriptor& d) {
    const GoPackage& package = go_package(d);
    const auto it = package.structs.find(d.name());
    if (it == package.structs.end()) fail("types.go beside " + d.file()->name() + " has no struct " + d.name());
    return it->second;
  }

  void add_fields(const pb::Descriptor& d, const GoStruct& go, int inline_tag, MessageOut& out) {
    for (const GoField& field : go.fields) {
      if (field.type_meta) {
        if (inline_tag != 0) fail(d.full_name() + ": TypeMeta inside an inline message");
        out.flags.push_back("kTopLevel");
        for (const char* name : {"kind", "apiVersion"}) {
          FieldOut f;
          f.json = name;
          f.go_type = f.type = "String";
          f.go_type = "string";
          f.flags = {"kOmitEmpty", "kOptional", "kTypeMeta"};
          const pb::Descriptor* meta =
              pool_.FindMessageTypeByName("k8s.io.apimachinery.pkg.apis.meta.v1.TypeMeta");
          if (meta != nullptr) f.description = comment_of(*meta->FindFieldByName(name)).text;
          out.fields.push_back(f);
        }
        continue;
      }
      if (field.tag == 0) fail(d.full_name() + ": Go field " + field.json + " has no protobuf tag");
      const pb::FieldDescriptor* pf = d.FindFieldByNumber(field.tag);
      if (pf == nullptr) fail(std::format("{}: no protobuf field with tag {}", d.full_name(), field.tag));
      if (field.is_inline) {
        if (inline_tag != 0) fail(d.full_name() + ": an inline message inside an inline message");
        const pb::Descriptor& inner = *pf->message_type();
        add_fields(inner, go_struct(inner), field.tag, out);
        continue;
      }
      out.fields.push_back(make_field(d, field, *pf, inline_tag));
    }
  }

  FieldOut make_field(const pb::Descriptor& d, const GoField& go, const pb::FieldDescriptor& pf, int inline_tag) {
    const Comment comment = comment_of(pf);
    FieldOut f;
    f.json = go.json;
    f.tag = go.tag;
    f.inline_tag = inline_tag;
    f.description = comment.text;
    f.go_type = qualify(go.go_type);
    set_type(pf, f);
    if (go.pointer) f.flags.push_back("kPointer");
    if (go.omitempty) f.flags.push_back("kOmitEmpty");
    if (comment.has("optional") || (go.omitempty && !comment.has("required"))) f.flags.push_back("kOptional");
    std::istringstream strategies(comment.one("patchStrategy"));
    for (std::string s; std::getline(strategies, s, ',');) {
      if (s == "merge") f.flags.push_back("kPatchMerge");
      else if (s == "replace") f.flags.push_back("kPatchReplace");
      else if (s == "retainKeys") f.flags.push_back("kPatchRetainKeys");
      else fail(d.full_name() + "." + f.json + ": unknown patchStrategy " + s);
    }
    f.merge_key = comment.one("patchMergeKey");
    if (comment.has("listMapKey"))
      for (const std::string& key : comment.markers.at("listMapKey")) f.list_keys += (f.list_keys.empty() ? "" : ",") + key;
    const std::string list = comment.one("listType"), map = comment.one("mapType");
    if (list == "atomic") f.list_type = "Atomic";
    else if (list == "set") f.list_type = "Set";
    else if (list == "map") f.list_type = "Map";
    else if (!list.empty()) fail(d.full_name() + "." + f.json + ": unknown listType " + list);
    if (map == "atomic" || comment.one("structType") == "atomic") f.map_type = "Atomic";
    else if (map == "granular") f.map_type = "Granular";
    if (comment.has("default")) f.default_json = resolve_default(d, f.json, comment.one("default"));
    return f;
  }

  std::string resolve_default(const pb::Descriptor& d, const std::string& field, const std::string& text) {
    if (!text.starts_with("ref(")) return text;
    std::string name = text.substr(4, text.size() - 5);
    name = name.substr(name.rfind('.') == std::string::npos ? 0 : name.rfind('.') + 1);
    const auto& constants = go_package(d).constants;
    const auto it = constants.find(name);
    if (it == constants.end()) fail(d.full_name() + "." + field + ": +default names the unknown constant " + name);
    return it->second;
  }

  // "[]Container" -> "[]v1.Container": error texts name Go types with their package.
  static std::string qualify(const std::string& type) {
    const std::size_t at = type.rfind(']') == std::string::npos ? 0 : type.rfind(']') + 1;
    std::string prefix = type.substr(0, at), base = type.substr(at);
    if (base.starts_with('*')) { prefix += '*'; base = base.substr(1); }
    static const std::map<std::string, std::string> aliases{{"metav1.", "v1."}, {"corev1.", "v1."}, {"types.", "types."}};
    for (const auto& [from, to] : aliases)
      if (base.starts_with(from)) return prefix + to + base.substr(from.size());
    if (base.contains('.') || !std::isupper(static_cast<unsigned char>(base[0]))) return prefix + base;
    return prefix + "v1." + base;
  }

  void set_type(const pb::FieldDescriptor& field, FieldOut& f) {
    const pb::FieldDescriptor* pf = &field;
    if (field.is_map()) {
      f.shape = "Map";
      if (field.message_type()->map_key()->type() != pb::FieldDescriptor::TYPE_STRING)
        fail(field.full_name() + ": a map whose key is not a string");
      pf = field.message_type()->map_value();
    } else if (field.is_repeated()) {
      f.shape = "List";
    }
    switch (pf->type()) {
      case pb::FieldDescriptor::TYPE_STRING: f.type = "String"; return;
      case pb::FieldDescriptor::TYPE_BYTES: f.type = "Bytes"; return;
      case pb::FieldDescriptor::TYPE_BOOL: f.type = "Bool"; return;
      case pb::FieldDescriptor::TYPE_INT32: f.type = "Int32"; return;
      case pb::FieldDescriptor::TYPE_INT64: f.type = "Int64"; return;
      case pb::FieldDescriptor::TYPE_UINT32: f.type = "UInt32"; return;
      case pb::FieldDescriptor::TYPE_UINT64: f.type = "UInt64"; return;
      case pb::FieldDescriptor::TYPE_FLOAT: f.type = "Float"; return;
      case pb::FieldDescriptor::TYPE_DOUBLE: f.type = "Double"; return;
      case pb::FieldDescriptor::TYPE_MESSAGE: break;
      default: fail(field.full_name() + ": a protobuf type that no Kubernetes API had before");
    }
    const pb::Descriptor& message = *pf->message_type();
    static const std::map<std::string, std::string> special{
        {"k8s.io.apimachinery.pkg.apis.meta.v1.Time", "Time"},
        {"k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime", "MicroTime"},
        {"k8s.io.apimachinery.pkg.apis.meta.v1.Duration", "Duration"},
        {"k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1", "FieldsV1"},
        {"k8s.io.apimachinery.pkg.api.resource.Quantity", "Quantity"},
        {"k8s.io.apimachinery.pkg.util.intstr.IntOrString", "IntOrString"},
        {"k8s.io.apimachinery.pkg.runtime.RawExtension", "RawExtension"}};
    if (const auto it = special.find(message.full_name()); it != special.end()) {
      f.type = it->second;
      return;
    }
    if (message.field_count() == 1 && message.field(0)->name() == "items" && message.field(0)->is_repeated() &&
        message.field(0)->type() == pb::FieldDescriptor::TYPE_STRING) {
      f.type = "StringList";
      return;
    }
    f.type = "Message";
    f.message = message.full_name();
  }

  std::filesystem::path go_root_;
  const pb::DescriptorPool& pool_;
  std::map<std::string, GoPackage> packages_;
  std::map<std::string, MessageOut> messages_;
};

class Text {
 public:
  std::uint32_t add(const std::string& s) {
    if (const auto it = at_.find(s); it != at_.end()) return it->second;
    const auto offset = static_cast<std::uint32_t>(bytes_.size());
    bytes_ += s;
    bytes_ += '\0';
    at_.emplace(s, offset);
    return offset;
  }
  void write(std::ostream& out, const char* name) const {
    out << "const char " << name << "[] =";
    for (std::size_t i = 0; i < bytes_.size(); i += 100) {
      out << "\n    \"";
      for (const char c : bytes_.substr(i, 100)) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') out << '\\' << c;
        else if (c == '?') out << "\\?";  // trigraphs
        else if (byte >= 0x20 && byte < 0x7f) out << c;
        else out << std::format("\\{:03o}", byte);
      }
      out << '"';
    }
    out << ";\n";
  }

 private:
  std::string bytes_ = std::string(1, '\0');  // offset 0 is the empty string
  std::map<std::string, std::uint32_t> at_{{"", 0}};
};

std::string join(const std::vector<std::string>& flags) {
  std::string out;
  for (const auto& f : flags) out += (out.empty() ? "" : " | ") + f;
  return out.empty() ? "0" : out;
}

// The smallest table and its seed that hold all names without a collision.
std::pair<std::uint32_t, std::vector<std::uint8_t>> perfect_hash(const std::string& message, const std::vector<FieldOut>& fields) {
  if (fields.size() > 250) fail(message + ": more fields than a slot can number");
  for (std::size_t size = std::bit_ceil(std::max<std::size_t>(1, fields.size())); size <= 4096; size *= 2) {
    for (std::uint32_t seed = 0; seed < 4000; ++seed) {
      std::vector<std::uint8_t> slots(size, 0xff);
      bool good = true;
      for (std::size_t i = 0; i < fields.size() && good; ++i) {
        std::uint8_t& slot = slots[field_hash(fields[i].json, seed) & (size - 1)];
        good = slot == 0xff;
        slot = static_cast<std::uint8_t>(i);
      }
      if (good) return {seed, slots};
    }
  }
  fail(message + ": two fields hash alike whatever the seed; is a name repeated?");
}

void Generator::write(const std::string& path) {
  std::map<std::string, std::size_t> index;
  for (const auto& [name, m] : messages_) index.emplace(name, index.size());
  Text text, descriptions;
  std::ostringstream fields, messages;
  std::vector<std::uint8_t> slots;
  std::size_t field_count = 0;
  for (const auto& [name, m] : messages_) {
    const auto [seed, own] = perfect_hash(name, m.fields);
    messages << std::format("    {{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}}},  // {}\n", text.add(name),
                            descriptions.add(m.description), slots.size(), seed, m.description.size(), name.size(),
                            field_count, m.fields.size(), own.size(), join(m.flags), name);
    slots.insert(slots.end(), own.begin(), own.end());
    field_count += m.fields.size();
    for (const FieldOut& f : m.fields)
      fields << std::format(
          "    {{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, Type::{}, Shape::{}, ListType::{}, MapType::{}}},  // {}\n",
          text.add(f.json), text.add(f.go_type), text.add(f.default_json), text.add(f.merge_key), text.add(f.list_keys),
          descriptions.add(f.description), f.description.size(), join(f.flags), f.tag, f.inline_tag,
          f.message.empty() ? 0 : index.at(f.message), f.json.size(), f.merge_key.size(), f.type, f.shape, f.list_type,
          f.map_type, f.json);
  }
  std::ofstream out(path + ".new");
  out << "// Written by tools/schema_gen from the Kubernetes API packages of this machine. Do not edit.\n"
         "#include \"kube/schema_table.h\"\n\nnamespace skerry::kube::table {\n\n";
  text.write(out, "kText");
  descriptions.write(out, "kDescriptions");
  out << "const FieldRow kFields[] = {\n" << fields.str() << "};\n";
  out << "const MessageRow kMessages[] = {\n" << messages.str() << "};\n";
  out << std::format("const std::uint16_t kMessageCount = {};\nconst std::uint16_t kFieldCount = {};\n", messages_.size(),
                     field_count);
  out << "const std::uint8_t kSlots[] = {";
  for (std::size_t i = 0; i < slots.size(); ++i) out << (i % 40 == 0 ? "\n    " : "") << int{slots[i]} << ",";
  out << "\n};\n\n}  // namespace skerry::kube::table\n";
  out.close();
  if (!out) fail("cannot write " + path);
  std::filesystem::rename(path + ".new", path);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) fail("usage: schema_gen GO_ROOT DESCRIPTOR_SET OUT.cc ROOT_MESSAGE...");
  std::ifstream in(argv[2], std::ios::binary);
  pb::FileDescriptorSet set;
  if (!in || !set.ParseFromIstream(&in)) fail(std::string("cannot read the descriptor set ") + argv[2]);
  pb::DescriptorPool pool;
  for (const pb::FileDescriptorProto& file : set.file())  // protoc writes dependencies first
    if (pool.BuildFile(file) == nullptr) fail("bad descriptor of " + file.name());
  Generator generator(argv[1], pool);
  for (int i = 4; i < argc; ++i) generator.add(argv[i]);
  generator.write(argv[3]);
  return 0;
}
