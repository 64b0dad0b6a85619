// SPDX-License-Identifier: Apache-2.0
#include "apiserver/selection.h"

#include <format>
#include <memory>

#include "base/text.h"

namespace skerry::apiserver {

store::Filter Selection::filter() const {
  if (everything()) {
    if (namespace_.empty()) return {};
    return [wanted = namespace_](const kube::Object& object) { return object.namespace_ == wanted; };
  }
  auto shared = std::make_shared<const Selection>(*this);
  return [shared](const kube::Object& object) {
    return (shared->namespace_.empty() || object.namespace_ == shared->namespace_) && shared->labels.matches(object.labels) &&
           shared->fields.matches(object);
  };
}

ApiResult<Selection> parse_selection(const Call& call) {
  Selection out;
  out.namespace_ = call.route.namespace_;
  TRY_API(out.labels, kube::LabelSelector::parse(call.param("labelSelector")));
  TRY_API(out.fields, kube::FieldSelector::parse(call.param("fieldSelector"), call.type()));
  return out;
}

ApiResult<std::optional<Revision>> parse_revision(const Call& call) {
  const std::string_view text = call.param("resourceVersion");
  if (text.empty() || text == "0") return std::optional<Revision>();
  const auto number = parse_int<std::uint64_t>(text);
  if (!number) {
    return ApiFail(kube::status_invalid("meta.k8s.io", "ListOptions", "",
                                        {kube::field_invalid_string("resourceVersion", text, std::format("strconv.ParseUint: parsing \"{}\": invalid syntax", text))}));
  }
  return std::optional(Revision(*number));
}

ApiResult<std::size_t> parse_count(const Call& call, std::string_view name, std::size_t otherwise) {
  const std::string_view text = call.param(name);
  if (text.empty()) return otherwise;
  const auto number = parse_int<std::int64_t>(text);
  if (!number || *number < 0) {
    return ApiFail(kube::status_bad_request(std::format("{}: \"{}\" is not a count: give a whole number, 0 or more", name, text)));
  }
  return static_cast<std::size_t>(*number);
}

}  // namespace skerry::apiserver
