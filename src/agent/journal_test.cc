// SPDX-License-Identifier: Apache-2.0
#include "agent/journal.h"

#include <gmock/gmock.h>

#include <format>

namespace skerry::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

kube::ObjectPtr service(int revision) {
  return kube::Object::from_json(std::format(R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"s","namespace":"d","uid":"u","resourceVersion":"{}"}}}})", revision)).value();
}
std::vector<std::string> words(const Journal::Batch& batch) {
  std::vector<std::string> out;
  if (!batch) return out;
  for (const Change& c : *batch) {
    if (const auto* put = std::get_if<change::PutObject>(&c)) out.push_back(std::format("put {}@{}", put->object->name(), put->object->revision().value()));
    else if (const auto* removed = std::get_if<change::RemoveObject>(&c)) out.push_back("remove " + removed->name);
    else if (const auto* number = std::get_if<change::PutNumber>(&c)) out.push_back(std::format("{}={}", number->name, number->value));
    else if (const auto* pod = std::get_if<change::RemovePod>(&c)) out.push_back("remove pod " + pod->uid);
    else if (const auto* whole = std::get_if<change::PutPod>(&c)) out.push_back(std::format("pod {} {}", whole->object->uid(), whole->state));
    else if (const auto* state = std::get_if<change::PutPodState>(&c)) out.push_back(std::format("state {} {}", state->uid, state->state));
  }
  return out;
}
Journal::Revisions read_to(std::uint64_t r) { return {{"pods", kube::Revision(r)}}; }

TEST(Journal, ARevisionGoesToTheDiskWithAllThatWasSeenUpToItAndNotBefore) {
  Journal j;
  Instant t{};
  j.put_slowly("Service", "d", "s", service(4));
  j.put_slowly("Service", "d", "s", service(5));
  j.put("ConfigMap", "d", "m", nullptr);
  EXPECT_THAT(words(j.take()), ElementsAre("remove m")) << "no revision: the service is not with it";
  j.on_written();
  EXPECT_TRUE(j.collect({change::RemovePod{"u-a"}}, read_to(5), t));
  EXPECT_THAT(words(j.take()), ElementsAre("put s@5", "remove pod u-a", "revision/pods=5"));
}

TEST(Journal, BookmarksAloneReachTheDiskSeldom) {
  Journal j;
  Instant t{};
  EXPECT_TRUE(j.collect({}, read_to(5), t));
  j.take();
  j.on_written();
  EXPECT_FALSE(j.collect({}, read_to(9), t + 5s));
  EXPECT_TRUE(j.collect({}, read_to(9), t + Journal::kRevisionsAtLeastEvery));
  EXPECT_THAT(words(j.take()), ElementsAre("revision/pods=9"));
  j.on_written();
  EXPECT_FALSE(j.collect({}, read_to(9), t + 2 * Journal::kRevisionsAtLeastEvery)) << "it is there already";
}

TEST(Journal, WhatTheDiskRefusesIsTakenAgainWithTheLastWordOnEverything) {
  Journal j;
  EXPECT_EQ(j.take(), nullptr);
  const auto object = [](std::string_view uid) {
    return kube::Object::from_json(std::format(R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p","namespace":"d","uid":"{}"}}}})", uid)).value();
  };
  j.put(std::vector<Change>{change::PutPod{object("a"), "1"}, change::PutPodState{"b", "1"}, change::PutNumber{"n", 1}});
  EXPECT_THAT(words(j.take()), ElementsAre("pod a 1", "state b 1", "n=1"));
  EXPECT_TRUE(j.waiting());
  j.put(std::vector<Change>{change::PutPodState{"a", "2"}, change::PutPodState{"b", "2"}, change::PutPodState{"b", "3"}, change::PutNumber{"n", 2}});
  j.put("Service", "d", "s", service(4));
  j.put("Service", "d", "s", nullptr);
  EXPECT_THAT(words(j.take()), ElementsAre("pod a 2", "state b 3", "n=2", "remove s"));
  j.put(std::vector<Change>{change::RemovePod{"a"}});
  EXPECT_THAT(words(j.take()), ElementsAre("remove pod a", "state b 3", "n=2", "remove s"));
  j.put(std::vector<Change>{change::PutPodState{"a", "4"}});
  EXPECT_THAT(words(j.take()), ElementsAre("remove pod a", "state b 3", "n=2", "remove s")) << "a uid does not come back";
  j.on_written();
  EXPECT_FALSE(j.waiting());
  EXPECT_EQ(j.take(), nullptr);
}

TEST(Journal, WhatWasForgottenIsKnownOverFurtherStartsUntilTheServerWasAsked) {
  Checkpoint::Loaded loaded;
  const auto start = [&loaded](bool whole = true) {
    Journal j;
    j.start(loaded, whole);
    return std::pair(j.forgetful(), words(j.take()));
  };
  EXPECT_THAT(start(), Pair(false, IsEmpty()));
  EXPECT_THAT(start(false), Pair(true, ElementsAre("forgetful=1")));
  loaded.older = true;
  EXPECT_THAT(start(), Pair(true, ElementsAre("forgetful=1", "older=0")));
  loaded = {};
  loaded.numbers = {{"forgetful", 1}};
  EXPECT_THAT(start(), Pair(true, IsEmpty())) << "on the disk already";
  Journal j;
  j.start(loaded, true);
  j.on_asked();
  EXPECT_FALSE(j.forgetful());
  EXPECT_THAT(words(j.take()), ElementsAre("forgetful=0"));
}

TEST(Journal, NothingIsResumedFromADiskThatLostSomething) {
  Checkpoint::Loaded loaded;
  loaded.numbers = {{"revision/pods", 7}};
  EXPECT_EQ(Journal().resume(loaded, "pods"), kube::Revision(7));
  EXPECT_EQ(Journal().resume(loaded, "services"), std::nullopt);
  loaded.lost = {"Secret d/s does not open"};
  EXPECT_EQ(Journal().resume(loaded, "pods"), std::nullopt);
  loaded.lost.clear();
  loaded.older = true;
  EXPECT_EQ(Journal().resume(loaded, "pods"), std::nullopt);
}

}  // namespace
}  // namespace skerry::agent
