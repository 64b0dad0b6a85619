// SPDX-License-Identifier: Apache-2.0
// What list, watch and deletecollection have in common: namespace, label and field selectors, and the requested revision.
#pragma once
#include "apiserver/call.h"
#include "kube/selector.h"

namespace skerry::apiserver {

struct Selection {
  std::string namespace_;
  kube::LabelSelector labels;
  kube::FieldSelector fields;
  bool everything() const { return labels.everything() && fields.everything(); }
  // Also checks the namespace; empty if everything is selected.
  store::Filter filter() const;
  store::Selected selected() const;
};
ApiResult<Selection> parse_selection(const Call&);
// Combinations of list and watch options that Kubernetes forbids, and those that are not served: 422 or 400.
ApiResult<> check_list_options(const Call&);
// resourceVersion: nothing for "" and "0". 400: no number.
ApiResult<std::optional<Revision>> parse_revision(const Call&);
// 504: a revision that does not exist yet; the client is told to come again.
ApiResult<> check_not_in_the_future(const Call&, std::optional<Revision>);
ApiResult<std::size_t> parse_count(const Call&, std::string_view name, std::size_t otherwise);

}  // namespace skerry::apiserver
