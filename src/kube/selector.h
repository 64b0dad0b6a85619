// SPDX-License-Identifier: Apache-2.0
// Label selectors (equality and set based) and field selectors, from query text and from objects.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "kube/json.h"
#include "kube/object.h"
#include "kube/resources.h"
#include "kube/status.h"

namespace skerry::kube {

class LabelSelector {
 public:
  LabelSelector() = default;  // everything
  // "app=x,tier in (a, b),!gone". "" selects everything. 400 with Kubernetes' words.
  static ApiResult<LabelSelector> parse(std::string_view text);
  // metav1.LabelSelector {matchLabels, matchExpressions}. null and Missing select nothing, {} everything.
  static ApiResult<LabelSelector> from_object(Json selector);
  static LabelSelector from_map(Json labels);  // a Service's selector; an empty or missing map selects nothing
  static LabelSelector nothing();

  bool matches(const Labels& sorted) const;
  bool matches(Json labels) const;  // an object of strings
  bool everything() const { return requirements_.empty() && !nothing_; }
  bool selects_nothing() const { return nothing_; }
  std::string to_string() const;  // canonical text that parse reads

 private:
  enum class Op { In, NotIn, Exists, DoesNotExist, GreaterThan, LessThan, Equals, NotEquals };
  struct Requirement {
    std::string key;
    Op op;
    std::vector<std::string> values;  // sorted
    bool matches(bool present, std::string_view value) const;
  };
  friend class LabelParser;
  std::vector<Requirement> requirements_;  // sorted by key
  bool nothing_ = false;
};

class FieldSelector {
 public:
  FieldSelector() = default;  // everything
  // "spec.nodeName=n,status.phase!=Failed". 400: a field that this resource does not support.
  static ApiResult<FieldSelector> parse(std::string_view text, const ResourceType&);
  // Answered from the object's index where it can; else parses the object.
  bool matches(const Object&) const;
  bool matches(Json object) const;
  bool everything() const { return terms_.empty(); }
  // The value demanded by an equality term on `field`, for direct look-ups; empty view if none.
  std::string_view required(std::string_view field) const;
  // Does what it selects stay selected as long as it exists? Names do not change, and a pod's node is set once.
  bool lasting() const;

 private:
  struct Term {
    std::string field, value;
    bool equal;
  };
  std::vector<Term> terms_;
};

}  // namespace skerry::kube
