// SPDX-License-Identifier: Apache-2.0
#include "agent/journal.h"

#include <gmock/gmock.h>

#include <format>

namespace skerry::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

kube::ObjectPtr service(int revision) {
  return kube::Object::from_json(std::format(R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"s","namespace":"d","uid":"u","resourceVersion":"{}"}}}})", revision)).value();
}
std::vector<std::string> words(const std::vector<Change>& changes) {
  std::vector<std::string> out;
  for (const Change& c : changes) {
    if (const auto* put = std::get_if<change::PutObject>(&c)) out.push_back(std::format("put {}@{}", put->object->name(), put->object->revision().value()));
    else if (const auto* removed = std::get_if<change::RemoveObject>(&c)) out.push_back("remove " + removed->name);
    else if (const auto* number = std::get_if<change::PutNumber>(&c)) out.push_back(std::format("{}={}", number->name, number->value));
    else if (const auto* pod = std::get_if<change::RemovePod>(&c)) out.push_back("remove pod " + pod->uid);
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
  EXPECT_TRUE(j.collect({change::RemovePod{"u-a"}}, read_to(5), t));
  EXPECT_THAT(words(j.take()), ElementsAre("put s@5", "remove pod u-a", "revision/pods=5"));
}

TEST(Journal, BookmarksAloneReachTheDiskSeldom) {
  Journal j;
  Instant t{};
  EXPECT_TRUE(j.collect({}, read_to(5), t));
  j.take();
  EXPECT_FALSE(j.collect({}, read_to(9), t + 5s));
  EXPECT_TRUE(j.collect({}, read_to(9), t + Journal::kRevisionsAtLeastEvery));
  EXPECT_THAT(words(j.take()), ElementsAre("revision/pods=9"));
  EXPECT_FALSE(j.collect({}, read_to(9), t + 2 * Journal::kRevisionsAtLeastEvery)) << "it is there already";
}

TEST(Journal, NothingIsResumedFromADiskThatLostSomething) {
  Checkpoint::Loaded loaded;
  loaded.numbers = {{"revision/pods", 7}};
  EXPECT_EQ(Journal().resume(loaded, "pods"), kube::Revision(7));
  EXPECT_EQ(Journal().resume(loaded, "services"), std::nullopt);
  loaded.lost = {"Secret d/s does not open"};
  EXPECT_EQ(Journal().resume(loaded, "pods"), std::nullopt);
}

}  // namespace
}  // namespace skerry::agent
