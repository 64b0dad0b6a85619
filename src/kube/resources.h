// SPDX-License-Identifier: Apache-2.0
// Every resource that the API serves: its names, scope, verbs and subresources. docs/kinds.md explains the choice.
// Static data; handles stay valid for the life of the program.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "kube/schema.h"

namespace skerry::kube {

// What a request body may be: a kind with its schema.
struct BodyType {
  std::string_view group, version, kind;
  std::string_view message_name;
  Message message() const { return find_message(message_name); }
};

struct Subresource {
  std::string_view name;                  // "status"
  std::string_view group, version, kind;  // of the body; for status, the kind itself
  std::span<const std::string_view> verbs;
};

struct ResourceType {
  std::string_view group, version;      // group is "" for core
  std::string_view api_version;         // "v1", "apps/v1"
  std::string_view resource, singular;  // "pods", "pod"
  std::string_view kind, list_kind;
  bool namespaced;
  std::string_view message_name, list_message_name;
  std::span<const std::string_view> short_names, categories, verbs;
  std::span<const Subresource> subresources;
  std::string_view storage_hash;  // for discovery

  Message message() const { return find_message(message_name); }
  BodyType body() const { return {group, version, kind, message_name}; }
  const Subresource* subresource(std::string_view name) const;  // nullptr: none of that name
  bool has_verb(std::string_view verb) const;
  std::string qualified() const;  // "pods", "deployments.apps": as error texts name it
};

// Ordered by group as discovery shows it: core, then by name.
std::span<const ResourceType> resources();
const ResourceType* find_resource(std::string_view group, std::string_view version, std::string_view resource);
const ResourceType* find_kind(std::string_view group, std::string_view version, std::string_view kind);
// By apiVersion and kind of an object: find_kind("apps/v1", "Deployment").
const ResourceType* find_kind(std::string_view api_version, std::string_view kind);

struct GroupVersion {
  std::string_view group, version;
};
std::span<const GroupVersion> group_versions();  // core ("", "v1") first

// Kinds that are only sent, never stored.
extern const BodyType kDeleteOptions, kBinding, kEviction, kScale, kTokenRequest, kSelfSubjectReview,
    kSelfSubjectAccessReview, kSelfSubjectRulesReview, kSubjectAccessReview, kTokenReview;

}  // namespace skerry::kube
