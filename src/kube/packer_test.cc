// SPDX-License-Identifier: Apache-2.0
#include "kube/packer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <format>
#include <utility>
#include <vector>

namespace skerry::kube {
namespace {

std::string pod(int number, int revision, std::string_view more = "") {
  std::string out = std::format(
      R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"web-{0}","namespace":"default","uid":"0000-{0}","resourceVersion":"{1}",)"
      R"("labels":{{"app":"web","pod-template-hash":"5d"}}}},"spec":{{"nodeName":"edge-1","containers":[)",
      number, revision);
  for (int i = 0; i < 10; ++i) out += std::format(R"({{"name":"c{}","image":"registry.example.com/web:1","imagePullPolicy":"IfNotPresent"}},)", i);
  out.back() = ']';
  return out + std::format(R"(}},"status":{{"phase":"Running","podIP":"10.0.0.{}"{}}}}})", number, more);
}
ObjectPtr object(std::string json) { return Object::from_json(std::move(json)).value(); }

void expect_same(const ObjectPtr& a, const ObjectPtr& b) {
  EXPECT_EQ(*a->json(), *b->json());
  EXPECT_EQ(a->json_size(), a->json()->size());
  EXPECT_EQ(a->name(), b->name());
  EXPECT_EQ(a->namespace_(), b->namespace_());
  EXPECT_EQ(a->uid(), b->uid());
  EXPECT_EQ(a->kind(), b->kind());
  EXPECT_EQ(a->labels(), b->labels());
  EXPECT_EQ(a->node_name(), b->node_name());
  EXPECT_EQ(a->phase(), b->phase());
  EXPECT_EQ(a->revision(), b->revision());
  EXPECT_EQ(a->deleting(), b->deleting());
}

// Goal: whatever is packed reads as before, in every field, also when everything else of its collection is gone.
TEST(Packer, ReadsAsBefore) {
  std::vector<ObjectPtr> plain, packed;
  {
    Packer packer;
    for (int i = 0; i < 200; ++i) {
      plain.push_back(object(pod(i, i + 1, i % 7 == 0 ? R"(,"message":"another")" : "")));
      packed.push_back(packer.pack(plain.back()));
    }
  }
  for (std::size_t i = 0; i < plain.size(); ++i) expect_same(packed[i], plain[i]);
  packed.erase(packed.begin(), packed.end() - 1);
  expect_same(packed[0], plain.back());
}

// Goal: objects that look alike take a fraction of their bytes, and share their index.
TEST(Packer, MakesSiblingsSmall) {
  Packer packer;
  const ObjectPtr first = packer.pack(object(pod(1, 1)));
  const ObjectPtr second = packer.pack(object(pod(2, 2)));
  EXPECT_EQ(first->stored_size(), first->json_size());
  EXPECT_LT(second->stored_size(), second->json_size() / 10);
  EXPECT_EQ(&first->labels(), &second->labels());
  EXPECT_EQ(packer.pack(second), second);
}

// Goal: the versions of one object share its identity; another object of the same name does not.
TEST(Packer, VersionsShareTheirIdentity) {
  Packer packer;
  const ObjectPtr first = packer.pack(object(pod(1, 1)));
  const ObjectPtr second = packer.pack(object(pod(1, 2)), first);
  EXPECT_EQ(first->identity(), second->identity());
  std::string other = pod(1, 3);
  other.replace(other.find("0000-1"), 6, "9999-1");
  EXPECT_NE(packer.pack(object(other), second)->identity(), second->identity());
}

// Goal: what does not look like anything known, is tiny, or is large, stays as it is.
TEST(Packer, LeavesTheRest) {
  Packer packer;
  const ObjectPtr tiny = object(R"({"kind":"Pod","metadata":{"name":"a"}})");
  EXPECT_EQ(packer.pack(tiny), tiny);
  std::vector<ObjectPtr> all;
  for (int i = 0; i < 100; ++i) {
    std::string noise;
    for (int k = 0; k < 40; ++k) noise += std::format("{:x}", std::hash<std::string>{}(std::format("{}-{}", i, k)));
    const ObjectPtr o = object(std::format(R"({{"kind":"ConfigMap","metadata":{{"name":"n{}"}},"data":{{"n":"{}"}}}})", i, noise));
    expect_same(packer.pack(o), o);
  }
  const ObjectPtr large = object(std::format(R"({{"kind":"ConfigMap","metadata":{{"name":"l"}},"data":{{"l":"{}"}}}})", std::string(40'000, 'x')));
  EXPECT_EQ(packer.pack(large), large);
  EXPECT_EQ(packer.pack(nullptr), nullptr);
}

// Goal: a set of objects is ordered and searched as their keys "namespace/name" are, and put() replaces.
TEST(Objects, AreOrderedByTheirKeys) {
  std::vector<std::pair<std::string, std::string>> names = {{"a", "z"}, {"a-b", "c"}, {"a.b", "c"}, {"a0", "b"}, {"", "a"}, {"", "zz"}, {"b", "a"}, {"a", "a"}, {"ab", ""}};
  Objects objects;
  std::vector<std::string> keys;
  const auto make = [](const std::string& space, const std::string& name, int revision) {
    return object(std::format(R"({{"kind":"X","metadata":{{"namespace":"{}","name":"{}","resourceVersion":"{}"}}}})", space, name, revision));
  };
  for (const auto& [space, name] : names) {
    put(objects, make(space, name, 1));
    keys.push_back(space.empty() ? name : space + "/" + name);
  }
  std::ranges::sort(keys);
  std::vector<std::string> found;
  for (const auto& o : objects) found.push_back(o->namespace_().empty() ? o->name() : o->namespace_() + "/" + o->name());
  EXPECT_EQ(found, keys);
  for (const std::string& key : keys) EXPECT_NE(objects.find(std::string_view(key)), objects.end()) << key;
  EXPECT_EQ(objects.find(std::string_view("a/y")), objects.end());
  EXPECT_EQ((*objects.lower_bound(std::string_view("a/")))->name(), "a");
  const auto at = put(objects, make("a", "z", 2));
  EXPECT_EQ((*at)->revision().value(), 2U);
  EXPECT_EQ(objects.size(), keys.size());
}

}  // namespace
}  // namespace skerry::kube
