// SPDX-License-Identifier: Apache-2.0
#include "apiserver/selection.h"

#include <format>
#include <memory>

#include "base/text.h"

namespace skerry::apiserver {

store::Filter Selection::filter() const {
  if (everything()) {
    if (namespace_.empty()) return {};
    return [wanted = namespace_](const kube::Object& object) { return object.namespace_() == wanted; };
  }
  auto shared = std::make_shared<const Selection>(*this);
  return [shared](const kube::Object& object) {
    return (shared->namespace_.empty() || object.namespace_() == shared->namespace_) && shared->labels.matches(object.labels()) &&
           shared->fields.matches(object);
  };
}

store::Selected Selection::selected() const {
  store::Selected out{.filter = filter()};
  if (labels.everything() && fields.lasting()) {
    out.lasting = {.namespace_ = namespace_.empty() ? std::string(fields.required("metadata.namespace")) : namespace_,
                   .node = std::string(fields.required("spec.nodeName"))};
  }
  return out;
}

ApiResult<Selection> parse_selection(const Call& call) {
  Selection out;
  out.namespace_ = call.route.namespace_;
  TRY_API(out.labels, kube::LabelSelector::parse(call.param("labelSelector")));
  TRY_API(out.fields, kube::FieldSelector::parse(call.param("fieldSelector"), call.type()));
  return out;
}

ApiResult<> check_list_options(const Call& call) {
  const bool watching = call.route.verb == "watch", initial = call.target.has_param("sendInitialEvents");
  const std::string_view match = call.param("resourceVersionMatch"), version = call.param("resourceVersion"), token = call.param("continue");
  kube::FieldErrors errors;
  const auto forbid = [&](const char* field, std::string_view text) { errors.push_back(kube::field_forbidden(field, text)); };
  if (initial && watching) forbid("sendInitialEvents", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled");
  if (initial && !watching) forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
  if (!match.empty()) {
    if (watching && !initial) forbid("resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    if (!watching && version.empty()) forbid("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided");
    if (!token.empty()) forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
    if (match != "Exact" && match != "NotOlderThan") {
      errors.push_back(kube::field_not_supported("resourceVersionMatch", match, {"Exact", "NotOlderThan", ""}));
    }
    if (match == "Exact" && version == "0") forbid("resourceVersionMatch", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
  }
  if (!errors.empty()) return ApiFail(kube::status_invalid("meta.k8s.io", "ListOptions", "", errors));
  if (!token.empty() && watching) return ApiFail(kube::status_bad_request("continue is not allowed for watch: a watch has no pages"));
  if (!token.empty() && !version.empty() && version != "0") {
    return ApiFail(kube::status_bad_request("specifying resource version is not allowed when using continue"));
  }
  return {};
}

ApiResult<> check_not_in_the_future(const Call& call, std::optional<Revision> wanted) {
  const Revision newest = call.server.store.revision();
  if (!wanted || *wanted <= newest) return {};
  Status late = kube::status_timeout(std::format("Too large resource version: {}, current: {}", wanted->value(), newest.value()));
  late.details.causes.push_back({"ResourceVersionTooLarge", "Too large resource version", ""});
  late.details.retry_after_seconds = 1;
  return ApiFail(std::move(late));
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
