// SPDX-License-Identifier: Apache-2.0
#include "net/address_pool.h"

#include <gtest/gtest.h>

namespace skerry::net {
namespace {

Ipv4Range range(const char* text) { return *Ipv4Range::parse(text); }

TEST(AddressPool, GivesTheSameAddressToTheSameOwner) {
  AddressPool pool(range("10.42.0.0/24"));
  EXPECT_EQ(pool.allocate("a")->str(), "10.42.0.3");
  EXPECT_EQ(pool.allocate("b")->str(), "10.42.0.4");
  EXPECT_EQ(pool.allocate("a")->str(), "10.42.0.3");
  EXPECT_EQ(pool.used(), 2u);
}

TEST(AddressPool, LetsAFreedAddressRest) {
  AddressPool pool(range("10.42.0.0/24"));
  ASSERT_TRUE(pool.allocate("a"));
  pool.release("a");
  EXPECT_EQ(pool.allocate("b")->str(), "10.42.0.4");
}

TEST(AddressPool, IsExhaustedWithASentenceAndRecovers) {
  AddressPool pool(range("10.42.0.0/29"));  // .3 .4 .5 .6
  EXPECT_EQ(pool.capacity(), 4u);
  for (const auto* owner : {"a", "b", "c", "d"}) ASSERT_TRUE(pool.allocate(owner));
  const auto full = pool.allocate("e");
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, Errc::Exhausted);
  EXPECT_EQ(full.error().what, "all 4 pod addresses of 10.42.0.0/29 are in use; give the node a larger pod range");
  pool.release("c");
  EXPECT_EQ(pool.allocate("e")->str(), "10.42.0.5");
}

TEST(AddressPool, TakesTheCheckpointsAddressesBack) {
  AddressPool pool(range("10.42.0.0/24"));
  const Ipv4 nine = *Ipv4::parse("10.42.0.9");
  EXPECT_TRUE(pool.reserve("a", nine));
  EXPECT_TRUE(pool.reserve("a", nine));
  EXPECT_EQ(pool.reserve("b", nine).error().code, Errc::AlreadyExists);
  EXPECT_EQ(pool.reserve("a", *Ipv4::parse("10.42.0.10")).error().code, Errc::Invalid);
  for (const auto* bad : {"10.42.0.0", "10.42.0.1", "10.42.0.2", "10.42.0.255", "10.42.1.3"}) {
    EXPECT_EQ(pool.reserve("c", *Ipv4::parse(bad)).error().code, Errc::Invalid) << bad;
  }
  EXPECT_EQ(pool.allocate("a"), nine);
}

}  // namespace
}  // namespace skerry::net
