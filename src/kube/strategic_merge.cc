// SPDX-License-Identifier: Apache-2.0
#include "kube/strategic_merge.h"

#include <algorithm>
#include <format>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace skerry::kube {
namespace {

constexpr std::string_view kDirective = "$patch";
constexpr std::string_view kRetainKeys = "$retainKeys";
constexpr std::string_view kSetOrder = "$setElementOrder/";
constexpr std::string_view kDeletePrimitive = "$deleteFromPrimitiveList/";

Error malformed(std::string text) { return {Errc::Invalid, std::move(text)}; }
Error inapplicable(std::string text) { return {Errc::Unsupported, std::move(text)}; }

bool is_directive(std::string_view key) {
  return key == kDirective || key == kRetainKeys || key.starts_with(kSetOrder) || key.starts_with(kDeletePrimitive);
}

// A value of the patch that has no counterpart: without directives and nulls. False: it deletes itself.
bool plain_copy(Json value, MutJson into) {
  if (value.is_object()) {
    if (value[kDirective].str() == "delete") return false;
    into.assign(JsonEdit().root());
    for (const auto [key, member] : value.members()) {
      if (is_directive(key) || member.is_null()) continue;
      if (!member.is_object() && !member.is_array()) {
        into.set(key, member);
        continue;
      }
      into.set_null(key);
      if (!plain_copy(member, into[key])) into.remove(key);
    }
    return true;
  }
  if (value.is_array()) {
    into.assign(JsonEdit::array().root());
    for (const Json item : value.items()) {
      if (!item.is_object() && !item.is_array()) {
        into.push(item);
        continue;
      }
      JsonEdit element;
      if (plain_copy(item, element.root())) into.push(element.root());
    }
    return true;
  }
  into.assign(value);
  return true;
}
void put_plain(MutJson object, std::string_view key, Json value) {
  object.set_null(key);
  if (!plain_copy(value, object[key])) object.remove(key);
}

// What identifies an element: its merge key, or the element itself when it is a scalar.
template <class J>
std::string identity(J element, std::string_view merge_key) {
  return merge_key.empty() || !element.is_object() ? element.dump() : element[merge_key].dump();
}
template <class J>
std::vector<std::string> identities(J list, std::string_view merge_key) {
  std::vector<std::string> out;
  for (const J element : list.items()) out.push_back(identity(element, merge_key));
  return out;
}

using Order = std::map<std::string, std::size_t>;
Order order_of(const std::vector<std::string>& names) {
  Order out;
  for (std::size_t i = 0; i < names.size(); ++i) out.emplace(names[i], i);
  return out;
}

// The merged list in the order that strategicpatch gives it: elements of `wanted` in its order, the others in the server's, both
// merged by the server's order; an element that the server did not have goes first.
void reorder(MutJson list, std::string_view merge_key, const std::vector<std::string>& wanted_names,
             const std::vector<std::string>& server_names) {
  const Order wanted = order_of(wanted_names), server = order_of(server_names);
  struct Item {
    std::string name;
    MutJson value;
  };
  std::vector<Item> from_patch, others;
  for (const MutJson element : list.items()) {
    std::string name = identity(element, merge_key);
    (wanted.contains(name) ? from_patch : others).push_back({std::move(name), element});
  }
  const auto rank = [](const Order& order, const Item& item) {
    const auto at = order.find(item.name);
    return at == order.end() ? SIZE_MAX : at->second;
  };
  std::ranges::stable_sort(from_patch, {}, [&](const Item& item) { return rank(wanted, item); });
  std::ranges::stable_sort(others, {}, [&](const Item& item) { return rank(server, item); });
  JsonEdit sorted = JsonEdit::array();
  auto left = others.begin();
  auto right = from_patch.begin();
  while (left != others.end() || right != from_patch.end()) {
    bool take_left = right == from_patch.end();
    if (!take_left && left != others.end()) {
      const std::size_t l = rank(server, *left), r = rank(server, *right);
      take_left = l != SIZE_MAX && r != SIZE_MAX && l < r;
    }
    sorted.root().push(take_left ? (left++)->value : (right++)->value);
  }
  list.assign(sorted.root());
}

class Merger {
 public:
  Result<> object(Message m, MutJson original, Json patch) {
    if (const Json directive = patch[kDirective]; directive.exists()) {
      if (directive.str() == "delete") {
        original.clear();
        return {};
      }
      if (directive.str() != "replace")
        return Fail(inapplicable(std::format("unknown patch type: {} in map", directive.dump())));
      original.assign(patch);
      original.remove(kDirective);
      return {};
    }
    TRY_OK(retain_keys(original, patch));
    for (const auto [key, value] : patch.members()) {
      if (key == kRetainKeys || key.starts_with(kSetOrder)) continue;
      if (key.starts_with(kDeletePrimitive)) {
        TRY_OK(delete_primitives(original[key.substr(kDeletePrimitive.size())], value));
        continue;
      }
      TRY_OK(member(m, original, key, value, patch));
    }
    // An order may be given for a list that the patch does not touch otherwise.
    for (const auto [key, value] : patch.members()) {
      if (!key.starts_with(kSetOrder)) continue;
      const std::string_view name = key.substr(kSetOrder.size());
      if (name.empty() || !value.is_array()) return Fail(malformed("bad patch format for set element order list"));
      if (patch[name].exists() || !original[name].is_array()) continue;
      const std::string merge_key = field_of(m, name).merge_key;
      TRY(auto wanted, order_names(value, merge_key));
      reorder(original[name], merge_key, wanted, identities(original[name], merge_key));
    }
    return {};
  }

 private:
  struct FieldRules {
    Message message;
    std::string merge_key;
    bool merge = false, replace = false, list = false;
  };
  static FieldRules field_of(Message m, std::string_view key) {
    FieldRules rules;
    if (!m) return rules;
    const Field f = m.find(key);
    if (!f) return rules;
    if (f.type() == FieldType::Message && f.shape() != Shape::Map) rules.message = f.message();
    rules.merge_key = f.merge_key();
    rules.merge = f.has(table::kPatchMerge);
    rules.replace = f.has(table::kPatchReplace);
    rules.list = f.shape() == Shape::List;
    return rules;
  }

  static Result<std::vector<std::string>> order_names(Json order, std::string_view merge_key) {
    std::vector<std::string> out;
    for (const Json item : order.items()) {
      if (!merge_key.empty() && !item[merge_key].exists())
        return Fail(inapplicable(std::format("map: {} does not contain declared merge key: {}", item.dump(), merge_key)));
      out.push_back(identity(item, merge_key));
    }
    return out;
  }

  static Result<> retain_keys(MutJson original, Json patch) {
    const Json retained = patch[kRetainKeys];
    if (!retained.exists()) return {};
    if (!retained.is_array()) return Fail(malformed("bad patch format for retainKeys"));
    std::set<std::string, std::less<>> keep;
    for (const Json key : retained.items()) keep.emplace(key.str());
    for (const auto [key, value] : patch.members())
      if (!is_directive(key) && !value.is_null() && !keep.contains(key))
        return Fail(malformed("bad patch format for retainKeys: a key of the patch is missing from the list"));
    std::vector<std::string> gone;
    for (const auto [key, value] : original.members())
      if (!keep.contains(key)) gone.emplace_back(key);
    for (const std::string& key : gone) original.remove(key);
    return {};
  }

  static Result<> delete_primitives(MutJson list, Json values) {
    if (!values.is_array()) return Fail(malformed("bad patch format for primitive list"));
    if (!list.is_array()) return {};
    const std::vector<std::string> names = identities(values, "");
    const std::set<std::string> gone(names.begin(), names.end());
    for (std::size_t i = list.size(); i-- > 0;)
      if (gone.contains(list[i].dump())) list.erase(i);
    return {};
  }

  Result<> member(Message m, MutJson original, std::string_view key, Json value, Json patch) {
    if (value.is_null()) {
      original.remove(key);
      return {};
    }
    MutJson mine = original[key];
    const FieldRules rules = field_of(m, key);
    const Json wanted_order = patch[std::string(kSetOrder) + std::string(key)];
    if (value.is_array() && wanted_order.exists()) {
      if (!wanted_order.is_array()) return Fail(malformed("bad patch format for set element order list"));
      const std::vector<std::string> server = identities(mine, rules.merge_key);
      TRY(const auto wanted, order_names(wanted_order, rules.merge_key));
      const std::set<std::string> listed(wanted.begin(), wanted.end());
      for (const Json element : value.items())
        if (!element[kDirective].exists() && !listed.contains(identity(element, rules.merge_key)))
          return Fail(malformed(std::format("The order in patch list:\n{}\n doesn't match {} list:\n{}\n", value.dump(), kSetOrder,
                                            wanted_order.dump())));
      if (mine.is_array() && rules.merge) {
        TRY_OK(list(rules, mine, value, Ordering::Later));
      } else {
        put_plain(original, key, value);
      }
      if (MutJson merged = original[key]; merged.is_array()) reorder(merged, rules.merge_key, wanted, server);
      return {};
    }
    if (mine.is_object() && value.is_object()) {
      if (!rules.replace) return object(rules.message, mine, value);
      put_plain(original, key, value);
      return {};
    }
    if (mine.is_array() && value.is_array() && rules.merge) return list(rules, mine, value, Ordering::Now);
    put_plain(original, key, value);
    return {};
  }

  enum class Ordering { Now, Later };
  Result<> list(const FieldRules& rules, MutJson mine, Json patch, Ordering ordering) {
    if (mine.size() == 0 && patch.size() == 0) return {};
    const bool of_objects = mine.size() > 0 ? mine[std::size_t{0}].is_object() : patch[std::size_t{0}].is_object();
    if (!of_objects) {
      std::vector<std::string> server = identities(mine, "");
      std::set<std::string> seen(server.begin(), server.end());
      for (const Json item : patch.items())
        if (seen.insert(item.dump()).second) mine.push(item);
      if (ordering == Ordering::Now) reorder(mine, "", identities(patch, ""), server);
      return {};
    }
    if (rules.merge_key.empty())
      return Fail(inapplicable("cannot merge lists without merge key"));
    bool replace = false;
    std::vector<Json> plain;
    for (const Json element : patch.items()) {
      if (!element.is_object()) return Fail(inapplicable("an element of a list of objects is not an object"));
      const Json directive = element[kDirective];
      const bool has_key = element[rules.merge_key].exists();
      if (!directive.exists() || directive.str() == "delete") {
        if (!has_key)
          return Fail(inapplicable(std::format("map: {} does not contain declared merge key: {}", element.dump(), rules.merge_key)));
      }
      if (!directive.exists()) plain.push_back(element);
      else if (directive.str() == "replace") replace = true;
      else if (directive.str() != "delete") return Fail(inapplicable(std::format("unknown patch type: {} in map", directive.dump())));
    }
    if (replace) {
      mine.clear();
      for (const Json element : plain) mine.push(element);
      return {};
    }
    std::set<std::string> gone;
    for (const Json element : patch.items())
      if (element[kDirective].str() == "delete") gone.insert(identity(element, rules.merge_key));
    if (!gone.empty()) {
      JsonEdit left = JsonEdit::array();
      for (const MutJson element : mine.items())
        if (!gone.contains(identity(element, rules.merge_key))) left.root().push(element);
      mine.assign(left.root());
    }
    const std::vector<std::string> server = identities(mine, rules.merge_key);
    std::map<std::string, MutJson> at;
    std::size_t position = 0;
    for (const MutJson element : mine.items()) at.emplace(server[position++], element);
    std::vector<std::string> wanted;
    for (const Json element : plain) {
      std::string name = identity(element, rules.merge_key);
      if (const auto found = at.find(name); found != at.end()) {
        TRY_OK(object(rules.message, found->second, element));
      } else {
        JsonEdit added;
        if (plain_copy(element, added.root())) {
          MutJson place = mine.push_object();
          place.assign(added.root());
          at.emplace(name, place);
        }
      }
      wanted.push_back(std::move(name));
    }
    if (ordering == Ordering::Now) reorder(mine, rules.merge_key, wanted, server);
    return {};
  }
};

}  // namespace

Result<> strategic_merge(Message m, MutJson original, Json patch) { return Merger().object(m, original, patch); }

}  // namespace skerry::kube
