// SPDX-License-Identifier: Apache-2.0
// Links, addresses, routes, namespaces and nft batches on the real kernel, in namespaces of the test's own. Needs root.
#include "os/netlink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/testing_needs.h"
#include "os/netns.h"
#include "os/nft.h"

namespace skerry::os {
namespace {

class Network : public ::testing::Test {
 protected:
  void SetUp() override {
    NEEDS(::geteuid() == 0, "needs root");
    char name[] = "/tmp/skerry-netlink-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    auto made = create_anonymous_netns();
    ASSERT_TRUE(made) << made.error().what;
    first_ = std::move(*made);
    made = create_anonymous_netns();
    ASSERT_TRUE(made) << made.error().what;
    second_ = std::move(*made);
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }
  std::filesystem::path folder_;
  UniqueFd first_, second_;
};

TEST(Ipv4, ParsesDottedQuadsOnly) {
  EXPECT_EQ(Ipv4::parse("10.42.0.1")->str(), "10.42.0.1");
  for (const auto* bad : {"", "10.42.0", "10.42.0.256", "10.042.0.1", "10.42.0.1.2", "a.b.c.d", "10.42.0.-1"}) {
    EXPECT_FALSE(Ipv4::parse(bad)) << bad;
  }
}

TEST(Ipv4Range, KnowsItsMembers) {
  const auto range = Ipv4Range::parse("10.42.4.0/22");
  ASSERT_TRUE(range);
  EXPECT_EQ(range->size(), 1024u);
  EXPECT_EQ(range->last().str(), "10.42.7.255");
  EXPECT_TRUE(range->contains(*Ipv4::parse("10.42.5.9")));
  EXPECT_FALSE(range->contains(*Ipv4::parse("10.42.8.0")));
  for (const auto* bad : {"10.42.4.1/22", "10.42.0.0", "10.42.0.0/33", "10.42.0.0/-1"})
    EXPECT_FALSE(Ipv4Range::parse(bad)) << bad;
  EXPECT_TRUE(Ipv4Range::parse("0.0.0.0/0")->contains(Ipv4{0xffffffff}));
}

TEST_F(Network, MakesAPairAcrossNamespaces) {
  const auto inside = NetnsScope::enter(first_.get());
  ASSERT_TRUE(inside);
  auto netlink = Netlink::open();
  ASSERT_TRUE(netlink);
  auto made = netlink->add_veth("a0", "b0", second_.get());
  ASSERT_TRUE(made) << made.error().what;
  EXPECT_EQ(netlink->add_veth("a0", "b0", second_.get()).error().code, Errc::AlreadyExists);
  EXPECT_EQ(netlink->link("nothing").error().code, Errc::NotFound);
  EXPECT_EQ(netlink->link("a-name-that-is-far-too-long").error().code, Errc::Invalid);
  auto link = netlink->link("a0");
  ASSERT_TRUE(link) << link.error().what;
  EXPECT_FALSE(link->up);
  ASSERT_TRUE(netlink->set_up(link->index));
  ASSERT_TRUE(netlink->set_alias(link->index, "skerry test"));
  EXPECT_EQ(netlink->link("a0")->alias, "skerry test");
  EXPECT_TRUE(netlink->link("a0")->up);
  const Ipv4 address = *Ipv4::parse("10.9.0.1");
  for (int round = 0; round < 2; ++round) {  // the second finds everything there
    auto added = netlink->add_address(link->index, address, 32);
    ASSERT_TRUE(added) << added.error().what;
    const Netlink::Route route{.to = *Ipv4Range::parse("10.9.1.0/24"),
                               .index = link->index,
                               .gateway = Ipv4::parse("10.9.1.2"),
                               .source = address};
    added = netlink->add_route(route);
    ASSERT_TRUE(added) << added.error().what;
  }
  ASSERT_TRUE(netlink->remove_link(link->index));
  EXPECT_EQ(netlink->link("a0").error().code, Errc::NotFound);
}

TEST_F(Network, MovesALink) {
  const auto inside = NetnsScope::enter(first_.get());
  ASSERT_TRUE(inside);
  auto netlink = Netlink::open();
  ASSERT_TRUE(netlink);
  ASSERT_TRUE(netlink->add_veth("a0", "b0", first_.get()));
  ASSERT_TRUE(netlink->move_to_netns(netlink->link("b0")->index, second_.get()));
  EXPECT_EQ(netlink->link("b0").error().code, Errc::NotFound);
  const auto other = NetnsScope::enter(second_.get());
  auto there = Netlink::open();
  EXPECT_TRUE(there->link("b0"));
}

TEST_F(Network, KeepsANamespaceByName) {
  const auto path = folder_ / "pods";
  EXPECT_EQ(open_netns(path).error().code, Errc::NotFound);
  auto made = create_netns(path);
  ASSERT_TRUE(made) << made.error().what;
  EXPECT_EQ(create_netns(path).error().code, Errc::AlreadyExists);
  EXPECT_TRUE(open_netns(path));
  ASSERT_TRUE(remove_netns(path));
  EXPECT_EQ(open_netns(path).error().code, Errc::NotFound);
  EXPECT_TRUE(remove_netns(path));  // nothing there: success
}

TEST_F(Network, AppliesABatchOrNothing) {
  NEEDS(std::filesystem::exists("/usr/sbin/nft"), "nft is not installed");
  const auto inside = NetnsScope::enter(first_.get());
  ASSERT_TRUE(inside);
  auto applied = apply_nft(R"({"nftables":[{"add":{"table":{"family":"ip","name":"t"}}}]})");
  ASSERT_TRUE(applied) << applied.error().what;
  applied = apply_nft(
      R"({"nftables":[{"add":{"table":{"family":"ip","name":"u"}}},{"add":{"rule":{"family":"ip","table":"t","chain":"none","expr":[]}}}]})");
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code, Errc::Invalid);
  EXPECT_THAT(applied.error().what, ::testing::HasSubstr("nft refused a batch"));
  const auto listed = apply_nft(R"({"nftables":[{"list":{"tables":{}}}]})");
  ASSERT_TRUE(listed) << listed.error().what;
  EXPECT_THAT(*listed, ::testing::HasSubstr(R"("name": "t")"));
  EXPECT_THAT(*listed, ::testing::Not(::testing::HasSubstr(R"("name": "u")")));
  EXPECT_EQ(apply_nft("{}", {.program = "/nonexistent/nft"}).error().code, Errc::NotFound);
}

}  // namespace
}  // namespace skerry::os
