// SPDX-License-Identifier: Apache-2.0
#include "kube/selector.h"

#include <algorithm>
#include <array>
#include <format>
#include <utility>

#include "base/text.h"
#include "kube/names.h"

namespace skerry::kube {
namespace {

constexpr std::size_t kSelectorBytesMax = 64 * 1024;

enum class Token { Identifier, In, NotIn, Comma, Open, Close, Equals, DoubleEquals, NotEquals, Not, Greater, Less, End };
struct Scanned {
  Token token;
  std::string_view text;
};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool is_special(char c) { return c == '=' || c == '!' || c == '(' || c == ')' || c == ',' || c == '>' || c == '<'; }

std::vector<Scanned> scan(std::string_view s) {
  std::vector<Scanned> out;
  std::size_t i = 0;
  while (true) {
    while (i < s.size() && is_space(s[i])) ++i;
    if (i == s.size()) {
      out.push_back({Token::End, ""});
      return out;
    }
    const std::size_t from = i;
    if (is_special(s[i])) {
      const char next = i + 1 < s.size() ? s[i + 1] : '\0';
      const bool two = next == '=' && (s[i] == '=' || s[i] == '!');
      i += two ? 2 : 1;
      Token token = Token::Comma;
      switch (s[from]) {
        case ',': token = Token::Comma; break;
        case '(': token = Token::Open; break;
        case ')': token = Token::Close; break;
        case '=': token = two ? Token::DoubleEquals : Token::Equals; break;
        case '!': token = two ? Token::NotEquals : Token::Not; break;
        case '>': token = Token::Greater; break;
        default: token = Token::Less; break;
      }
      out.push_back({token, s.substr(from, i - from)});
      continue;
    }
    while (i < s.size() && !is_special(s[i]) && !is_space(s[i])) ++i;
    const std::string_view word = s.substr(from, i - from);
    out.push_back({word == "in" ? Token::In : word == "notin" ? Token::NotIn : Token::Identifier, word});
  }
}

std::string invalid_text(std::string_view field, std::string_view value, const Complaints& complaints) {
  return std::format("{}: Invalid value: {}: {}", field, json_quote(value), join_complaints(complaints, "; "));
}

}  // namespace

// A recursive descent over the tokens; the words of its errors are those of k8s.io/apimachinery/pkg/labels.
class LabelParser {
 public:
  using Op = LabelSelector::Op;
  using Requirement = LabelSelector::Requirement;
  explicit LabelParser(std::string_view text) : tokens_(scan(text)) {}

  std::expected<std::vector<Requirement>, std::string> parse() {
    std::vector<Requirement> out;
    for (;;) {
      const Scanned next = as_value(tokens_[at_]);
      if (next.token == Token::End) return out;
      if (next.token != Token::Identifier && next.token != Token::Not)
        return wrong(std::format("found '{}', expected: !, identifier, or 'end of string'", next.text));
      auto requirement = parse_requirement();
      if (!requirement) return wrong("unable to parse requirement: " + requirement.error());
      out.push_back(std::move(*requirement));
      const Scanned after = as_value(take());
      if (after.token == Token::End) return out;
      if (after.token != Token::Comma) return wrong(std::format("found '{}', expected: ',' or 'end of string'", after.text));
      const Scanned following = as_value(tokens_[at_]);
      if (following.token != Token::Identifier && following.token != Token::Not)
        return wrong(std::format("found '{}', expected: identifier after ','", following.text));
    }
  }

  // Checks that hold for every requirement, whatever it was made from.
  static std::expected<Requirement, std::string> make(std::string_view key, Op op, std::vector<std::string> values) {
    if (const auto bad = check_qualified_name(key); !bad.empty()) return wrong(invalid_text("key", key, bad));
    std::ranges::sort(values);
    values.erase(std::ranges::unique(values).begin(), values.end());
    if ((op == Op::In || op == Op::NotIn) && values.empty())
      return wrong("values: Invalid value: []string{}: for 'in', 'notin' operators, values set can't be empty");
    if ((op == Op::Exists || op == Op::DoesNotExist) && !values.empty())
      return wrong("values: Invalid value: values set must be empty for exists and does not exist");
    if (op == Op::GreaterThan || op == Op::LessThan) {
      if (values.size() != 1) return wrong("values: Invalid value: for 'Gt', 'Lt' operators, exactly one value is required");
      if (!parse_int<std::int64_t>(values[0]))
        return wrong(std::format("values[0]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer", json_quote(values[0])));
    }
    for (std::size_t i = 0; i < values.size(); ++i)
      if (const auto bad = check_label_value(values[i]); !bad.empty())
        return wrong(invalid_text(std::format("values[{}][{}]", i, key), values[i], bad));
    return Requirement{std::string(key), op, std::move(values)};
  }

 private:
  static std::unexpected<std::string> wrong(std::string text) { return std::unexpected(std::move(text)); }
  static Scanned as_value(Scanned s) {
    if (s.token == Token::In || s.token == Token::NotIn) s.token = Token::Identifier;
    return s;
  }
  Scanned take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }  // End stays

  std::expected<Requirement, std::string> parse_requirement() {
    Scanned t = as_value(take());
    bool negated = false;
    if (t.token == Token::Not) {
      negated = true;
      t = as_value(take());
    }
    if (t.token != Token::Identifier) return wrong(std::format("found '{}', expected: identifier", t.text));
    const std::string_view key = t.text;
    if (const auto bad = check_qualified_name(key); !bad.empty()) return wrong(std::format("<nil>: Invalid value: {}: {}", json_quote(key), join_complaints(bad, "; ")));
    const Token next = tokens_[at_].token;
    if (next == Token::End || next == Token::Comma) return make(key, negated ? Op::DoesNotExist : Op::Exists, {});
    if (negated) return make(key, Op::DoesNotExist, {});
    const Scanned op_token = take();
    Op op{};
    switch (op_token.token) {
      case Token::In: op = Op::In; break;
      case Token::NotIn: op = Op::NotIn; break;
      case Token::Equals: case Token::DoubleEquals: op = Op::Equals; break;
      case Token::NotEquals: op = Op::NotEquals; break;
      case Token::Greater: op = Op::GreaterThan; break;
      case Token::Less: op = Op::LessThan; break;
      default: return wrong(std::format("found '{}', expected: in, notin, =, ==, !=, gt, lt", op_token.text));
    }
    std::vector<std::string> values;
    if (op == Op::In || op == Op::NotIn) {
      auto parsed = parse_values();
      if (!parsed) return wrong(std::move(parsed.error()));
      values = std::move(*parsed);
    } else {
      const Scanned value = as_value(tokens_[at_]);
      if (value.token == Token::End || value.token == Token::Comma) {
        values.emplace_back();
      } else if (value.token == Token::Identifier) {
        values.emplace_back(take().text);
      } else {
        return wrong(std::format("found '{}', expected: identifier", value.text));
      }
    }
    return make(key, op, std::move(values));
  }

  std::expected<std::vector<std::string>, std::string> parse_values() {
    const Scanned open = as_value(take());
    if (open.token != Token::Open) return wrong(std::format("found '{}' expected: '('", open.text));
    const Scanned first = as_value(tokens_[at_]);
    if (first.token == Token::Close) {
      take();
      return std::vector<std::string>{""};
    }
    if (first.token != Token::Identifier && first.token != Token::Comma)
      return wrong(std::format("found '{}', expected: ',', ')' or identifier", first.text));
    std::vector<std::string> values;
    bool after_comma = true;  // an empty place between commas or parentheses is the value ""
    for (;;) {
      const Scanned t = as_value(take());
      if (t.token == Token::Identifier) {
        if (!after_comma) return wrong(std::format("found '{}', expected: ',' or ')'", t.text));
        values.emplace_back(t.text);
        after_comma = false;
      } else if (t.token == Token::Comma) {
        if (after_comma) values.emplace_back();
        after_comma = true;
      } else if (t.token == Token::Close) {
        if (after_comma) values.emplace_back();
        return values;
      } else if (!after_comma) {
        return wrong(std::format("found '{}', expected: ',' or ')'", t.text));
      } else {
        return wrong(std::format("found '{}', expected: ',', or identifier", t.text));
      }
    }
  }

  std::vector<Scanned> tokens_;
  std::size_t at_ = 0;
};

ApiResult<LabelSelector> LabelSelector::parse(std::string_view text) {
  LabelSelector out;
  if (text.empty()) return out;
  if (text.size() > kSelectorBytesMax)
    return ApiFail(status_bad_request(std::format("the label selector has {} bytes; at most {} are read", text.size(), kSelectorBytesMax)));
  auto parsed = LabelParser(text).parse();
  if (!parsed) return ApiFail(status_bad_request(parsed.error()));
  out.requirements_ = std::move(*parsed);
  std::ranges::stable_sort(out.requirements_, {}, &Requirement::key);
  return out;
}

ApiResult<LabelSelector> LabelSelector::from_object(Json selector) {
  LabelSelector out;
  if (!selector.is_object()) return nothing();
  const auto add = [&](std::string_view key, Op op, std::vector<std::string> values) -> ApiResult<> {
    auto made = LabelParser::make(key, op, std::move(values));
    if (!made) return ApiFail(status_bad_request(made.error()));
    out.requirements_.push_back(std::move(*made));
    return {};
  };
  for (const auto [key, value] : selector["matchLabels"].members())
    TRY_API_OK(add(key, Op::Equals, {std::string(value.str())}));
  for (const Json expression : selector["matchExpressions"].items()) {
    constexpr std::array<std::pair<std::string_view, Op>, 4> kOps{
        {{"In", Op::In}, {"NotIn", Op::NotIn}, {"Exists", Op::Exists}, {"DoesNotExist", Op::DoesNotExist}}};
    const auto op = std::ranges::find(kOps, expression["operator"].str(), &std::pair<std::string_view, Op>::first);
    if (op == kOps.end())
      return ApiFail(status_bad_request(
          std::format("{} is not a valid label selector operator", json_quote(expression["operator"].str()))));
    std::vector<std::string> values;
    for (const Json v : expression["values"].items()) values.emplace_back(v.str());
    TRY_API_OK(add(expression["key"].str(), op->second, std::move(values)));
  }
  std::ranges::stable_sort(out.requirements_, {}, &Requirement::key);
  return out;
}

LabelSelector LabelSelector::from_map(Json labels) {
  if (labels.size() == 0) return nothing();
  LabelSelector out;
  for (const auto [key, value] : labels.members())
    out.requirements_.push_back({std::string(key), Op::Equals, {std::string(value.str())}});
  std::ranges::stable_sort(out.requirements_, {}, &Requirement::key);
  return out;
}
LabelSelector LabelSelector::nothing() {
  LabelSelector out;
  out.nothing_ = true;
  return out;
}

bool LabelSelector::Requirement::matches(bool present, std::string_view value) const {
  const auto contains = [&] { return std::ranges::find(values, value) != values.end(); };
  switch (op) {
    case Op::In: case Op::Equals: return present && contains();
    case Op::NotIn: case Op::NotEquals: return !present || !contains();
    case Op::Exists: return present;
    case Op::DoesNotExist: return !present;
    case Op::GreaterThan: case Op::LessThan: {
      const auto have = parse_int<std::int64_t>(value);
      const auto bound = parse_int<std::int64_t>(values.front());
      if (!present || !have || !bound) return false;
      return op == Op::GreaterThan ? *have > *bound : *have < *bound;
    }
  }
  return false;
}

bool LabelSelector::matches(const Labels& sorted) const {
  if (nothing_) return false;
  return std::ranges::all_of(requirements_, [&](const Requirement& r) {
    const auto at = std::ranges::lower_bound(sorted, r.key, {}, &Labels::value_type::first);
    const bool present = at != sorted.end() && at->first == r.key;
    return r.matches(present, present ? std::string_view(at->second) : std::string_view());
  });
}
bool LabelSelector::matches(Json labels) const {
  if (nothing_) return false;
  return std::ranges::all_of(requirements_, [&](const Requirement& r) {
    const Json value = labels[r.key];
    return r.matches(value.is_string(), value.str());
  });
}

std::string LabelSelector::to_string() const {
  std::string out;
  for (const Requirement& r : requirements_) {
    if (!out.empty()) out += ',';
    std::string list;
    for (const std::string& v : r.values) list += (&v == &r.values.front() ? "" : ",") + v;
    switch (r.op) {
      case Op::Equals: out += r.key + "=" + list; break;
      case Op::NotEquals: out += r.key + "!=" + list; break;
      case Op::In: out += r.key + " in (" + list + ")"; break;
      case Op::NotIn: out += r.key + " notin (" + list + ")"; break;
      case Op::Exists: out += r.key; break;
      case Op::DoesNotExist: out += "!" + r.key; break;
      case Op::GreaterThan: out += r.key + ">" + list; break;
      case Op::LessThan: out += r.key + "<" + list; break;
    }
  }
  return out;
}

// ---- field selectors

namespace {

// metadata.name and metadata.namespace hold for every resource.
bool supports_field(const ResourceType& type, std::string_view field) {
  if (field == "metadata.name" || (field == "metadata.namespace" && type.namespaced)) return true;
  const auto among = [&](std::initializer_list<std::string_view> fields) { return std::ranges::find(fields, field) != fields.end(); };
  if (type.kind == "Pod")
    return among({"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
                  "status.phase", "status.podIP", "status.nominatedNodeName"});
  if (type.kind == "Event")
    return among({"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
                  "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
                  "reportingComponent", "source", "type"});
  if (type.kind == "Node") return among({"spec.unschedulable"});
  if (type.kind == "Namespace") return among({"status.phase"});
  if (type.kind == "Secret") return among({"type"});
  if (type.kind == "Service") return among({"spec.clusterIP", "spec.type"});
  if (type.kind == "ReplicaSet") return among({"status.replicas"});
  if (type.kind == "CertificateSigningRequest") return among({"spec.signerName"});
  return false;
}

std::string field_text(Json object, std::string_view field) {
  if (field == "source") {  // of an Event: its component, or who reported it
    const std::string_view component = object["source"]["component"].str();
    return std::string(component.empty() ? object["reportingComponent"].str() : component);
  }
  const Json value = object.path(field);
  if (value.is_string()) return std::string(value.str());
  if (field == "spec.unschedulable" || field == "spec.hostNetwork") return value.boolean() ? "true" : "false";
  if (field == "status.replicas") return std::to_string(value.i64());
  return "";
}

ApiResult<std::string> unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\') {
      const char next = ++i < text.size() ? text[i] : '\0';
      if (next != '\\' && next != ',' && next != '=')
        return ApiFail(status_bad_request(
            std::format("invalid field selector: invalid escape sequence: \\{}", next == '\0' ? "" : std::string(1, next))));
      out += next;
    } else if (c == '=') {
      return ApiFail(status_bad_request(std::format("invalid field selector: unescaped character in value: {}", c)));
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

ApiResult<FieldSelector> FieldSelector::parse(std::string_view text, const ResourceType& type) {
  FieldSelector out;
  if (text.size() > kSelectorBytesMax)
    return ApiFail(status_bad_request(std::format("the field selector has {} bytes; at most {} are read", text.size(), kSelectorBytesMax)));
  for (std::size_t from = 0; from <= text.size();) {
    std::size_t to = from;
    while (to < text.size() && text[to] != ',') to += text[to] == '\\' ? 2U : 1U;
    to = std::min(to, text.size());
    const std::string_view term = text.substr(from, to - from);
    from = to + 1;
    if (term.empty()) continue;
    const std::size_t at = term.find('=');
    if (at == std::string_view::npos)
      return ApiFail(status_bad_request(std::format("invalid selector: '{}'; can't understand '{}'", text, term)));
    const bool equal = at == 0 || term[at - 1] != '!';
    const std::string_view field = term.substr(0, equal ? at : at - 1);
    std::string_view value = term.substr(at + 1);
    if (equal && value.starts_with('=')) value.remove_prefix(1);
    TRY_API(std::string plain, unescape(value));
    if (!supports_field(type, field))
      return ApiFail(status_bad_request(type.kind == "Pod" || type.kind == "Event" || type.kind == "Node" || type.kind == "Namespace" ||
                                                type.kind == "Secret" || type.kind == "Service" || type.kind == "ReplicaSet" ||
                                                type.kind == "CertificateSigningRequest"
                                            ? std::format("field label not supported: {}", field)
                                            : std::format("{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                                                          json_quote(field))));
    out.terms_.push_back({std::string(field), std::move(plain), equal});
  }
  return out;
}

bool FieldSelector::matches(const Object& object) const {
  bool index_only = true;
  for (const Term& t : terms_) {
    std::string_view have;
    if (t.field == "metadata.name") have = object.name();
    else if (t.field == "metadata.namespace") have = object.namespace_();
    else if (t.field == "spec.nodeName") have = object.node_name();
    else if (t.field == "status.phase") have = object.phase();
    else {
      index_only = false;
      continue;
    }
    if ((have == t.value) != t.equal) return false;
  }
  return index_only || matches(object.parse().root());
}

bool FieldSelector::matches(Json object) const {
  return std::ranges::all_of(terms_, [&](const Term& t) { return (field_text(object, t.field) == t.value) == t.equal; });
}

std::string_view FieldSelector::required(std::string_view field) const {
  for (const Term& t : terms_)
    if (t.equal && t.field == field) return t.value;
  return {};
}

bool FieldSelector::lasting() const {
  return std::ranges::all_of(terms_, [](const Term& t) {
    return t.field == "metadata.name" || t.field == "metadata.namespace" || (t.field == "spec.nodeName" && t.equal && !t.value.empty());
  });
}

}  // namespace skerry::kube
