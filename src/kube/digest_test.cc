// SPDX-License-Identifier: Apache-2.0
#include "kube/digest.h"

#include <gmock/gmock.h>

#include <format>

namespace skerry::kube {
namespace {

ObjectPtr object(std::string_view uid, int revision) {
  return Object::from_json(std::format(R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"a","namespace":"d","uid":"{}","resourceVersion":"{}"}}}})", uid, revision)).value();
}

TEST(Digest, IsOfTheSetWhateverItsOrderAndItsHistory) {
  Digest one, other;
  one.add(*object("u-1", 5));
  one.add(*object("u-2", 6));
  other.add(*object("u-2", 4));
  other.add(*object("u-3", 7));
  other.add(*object("u-1", 5));
  EXPECT_NE(one.value(), other.value());
  other.remove(*object("u-3", 7));
  other.remove(*object("u-2", 4));
  other.add(*object("u-2", 6));
  EXPECT_EQ(one.value(), other.value());
  EXPECT_EQ(other.count(), 2u);
}

TEST(Digest, DiffersByUidAndByRevision) {
  const auto of = [](std::string_view uid, int revision) {
    Digest d;
    d.add(*object(uid, revision));
    return d.value();
  };
  EXPECT_NE(of("u-1", 5), of("u-1", 6));
  EXPECT_NE(of("u-1", 5), of("u-2", 5));
  Digest swapped, straight;  // the versions of two objects, exchanged
  straight.add(*object("u-1", 5));
  straight.add(*object("u-2", 6));
  swapped.add(*object("u-1", 6));
  swapped.add(*object("u-2", 5));
  EXPECT_NE(straight.value(), swapped.value());
  EXPECT_EQ(of("u-1", 5), 0xd17e6a396ff85728ULL) << "sent between versions: never changes (docs/wire/digest.md)";
}

TEST(Digest, TextGoesThereAndBack) {
  const Digests digests = {{"pods", 0x1f}, {"services", ~0ULL}};
  EXPECT_EQ(digests_text(digests), "pods=000000000000001f;services=ffffffffffffffff");
  EXPECT_EQ(parse_digests(digests_text(digests)), digests);
  for (const char* bad : {"", "pods", "pods=", "pods=1f", "=000000000000001f", "pods=000000000000001g", "pods=000000000000001f;", "pods=000000000000001f;x"})
    EXPECT_EQ(parse_digests(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace skerry::kube
