// SPDX-License-Identifier: Apache-2.0
// The pod network on the real kernel; "the host" is a network namespace of the test's own. Needs root.
#include "net/pod_network.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include "net/testing.h"
#include "os/netlink.h"
#include "os/netns.h"

namespace skerry::net {
namespace {

class PodNetworkTest : public testing::HostNamespace {};

TEST_F(PodNetworkTest, ConnectsTheHostToAPod) {
  auto network = PodNetwork::open(options());
  ASSERT_TRUE(network) << network.error().what;
  const auto pod = network->listen(testing::address("10.42.0.7"), 8080);
  ASSERT_TRUE(pod) << pod.error().what;
  const auto from = testing::connect_and_accept("10.42.0.7", 8080, pod->get());
  ASSERT_TRUE(from) << from.error().what;
  EXPECT_EQ(*from, "10.42.0.1");
  EXPECT_EQ(network->listen(testing::address("10.42.0.7"), 8080).error().code, Errc::AlreadyExists);
  EXPECT_EQ(network->listen(testing::address("10.42.0.1"), 8080).error().code, Errc::Invalid);
  EXPECT_EQ(network->listen(testing::address("10.44.0.1"), 8080).error().code, Errc::Invalid);
  EXPECT_EQ(testing::connect_to("10.42.0.8", 8080), ECONNREFUSED);
  ASSERT_TRUE(network->remove());
}

// Goal: a listener that comes from a sandbox is believed only if it is the pod's. Method: one of ours, and what is like it but for one thing.
TEST_F(PodNetworkTest, KnowsItsOwnListenersFromOthers) {
  auto network = PodNetwork::open(options());
  ASSERT_TRUE(network) << network.error().what;
  const auto address = testing::address("10.42.0.7");
  const auto pod = network->listen(address, 8080);
  ASSERT_TRUE(pod);
  EXPECT_TRUE(network->check_listener(pod->get(), address, 8080));
  const auto why = [&](int fd, std::uint16_t port = 8080) {
    const auto checked = network->check_listener(fd, address, port);
    return checked ? "" : checked.error().what;
  };
  EXPECT_THAT(why(pod->get(), 8081), ::testing::HasSubstr("another address"));
  EXPECT_THAT(why(network->listen(testing::address("10.42.0.8"), 8080)->get()), ::testing::HasSubstr("another address"));
  EXPECT_THAT(why(os::UniqueFd(::socket(AF_INET, SOCK_STREAM, 0)).get()), ::testing::HasSubstr("no TCP socket that listens"));
  EXPECT_THAT(why(network->netns()), ::testing::HasSubstr("no TCP socket that listens"));
  const os::UniqueFd elsewhere(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));  // the host may bind what it does not have
  const int on = 1;
  sockaddr_in name{.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr = {htonl(address.value)}, .sin_zero = {}};
  ASSERT_EQ(::setsockopt(elsewhere.get(), IPPROTO_IP, IP_FREEBIND, &on, sizeof on), 0);
  ASSERT_EQ(::bind(elsewhere.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
  ASSERT_EQ(::listen(elsewhere.get(), 1), 0);
  EXPECT_THAT(why(elsewhere.get()), ::testing::HasSubstr("not in the pods' network"));
  ASSERT_TRUE(network->remove());
}

// The name server's sockets: at an address that no pod ever has, one of each kind at a time.
TEST_F(PodNetworkTest, BindsDatagramsAtItsOwnAddress) {
  auto network = PodNetwork::open(options());
  ASSERT_TRUE(network) << network.error().what;
  ASSERT_EQ(network->own_address().str(), "10.42.0.2");
  const auto udp = network->bind_datagrams(network->own_address(), 53);
  ASSERT_TRUE(udp) << udp.error().what;
  const auto tcp = network->listen(network->own_address(), 53);
  ASSERT_TRUE(tcp) << tcp.error().what;
  EXPECT_EQ(network->bind_datagrams(network->own_address(), 53).error().code, Errc::AlreadyExists);
  const os::UniqueFd client(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_in name = testing::name_of("10.42.0.2", 53);
  ASSERT_EQ(::sendto(client.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&name), sizeof name), 1);
  pollfd waiting{.fd = udp->get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&waiting, 1, 2000), 1);
  EXPECT_FALSE(network->bind_datagrams(network->host_address(), 53));
  ASSERT_TRUE(network->remove());
}

// Goal: a restarted agent finds the network, and its pods have gone on serving.
TEST_F(PodNetworkTest, AdoptsWhatExists) {
  auto first = PodNetwork::open(options());
  ASSERT_TRUE(first) << first.error().what;
  const auto pod = first->listen(testing::address("10.42.0.7"), 8080);
  ASSERT_TRUE(pod);
  auto second = PodNetwork::open(options());
  ASSERT_TRUE(second) << second.error().what;
  EXPECT_TRUE(first->made());
  EXPECT_FALSE(second->made());
  EXPECT_TRUE(testing::connect_and_accept("10.42.0.7", 8080, pod->get()));
  EXPECT_EQ(second->listen(testing::address("10.42.0.7"), 8080).error().code, Errc::AlreadyExists);
  ASSERT_TRUE(second->remove());
  ASSERT_TRUE(first->remove());  // nothing is left: success
}

TEST_F(PodNetworkTest, MakesALostPartAnew) {
  auto first = PodNetwork::open(options());
  ASSERT_TRUE(first);
  auto netlink = os::Netlink::open();
  ASSERT_TRUE(netlink->remove_link(netlink->link(options().host_link)->index));
  auto second = PodNetwork::open(options());
  ASSERT_TRUE(second) << second.error().what;
  const auto pod = second->listen(testing::address("10.42.0.9"), 80);
  EXPECT_TRUE(testing::connect_and_accept("10.42.0.9", 80, pod->get()));
  ASSERT_TRUE(os::remove_netns(options().run_folder / options().name));
  auto third = PodNetwork::open(options());
  ASSERT_TRUE(third) << third.error().what;
  const auto again = third->listen(testing::address("10.42.0.9"), 80);
  EXPECT_TRUE(testing::connect_and_accept("10.42.0.9", 80, again->get()));
  ASSERT_TRUE(third->remove());
}

TEST_F(PodNetworkTest, RefusesAnotherRangeWhilePodsMayServe) {
  auto network = PodNetwork::open(options());
  ASSERT_TRUE(network);
  auto other = options();
  other.pods = *Ipv4Range::parse("10.50.0.0/24");
  const auto refused = PodNetwork::open(other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::Conflict);
  EXPECT_THAT(refused.error().what, ::testing::HasSubstr("link sk0 belongs to the pod network \"10.42.0.0/24 "));
  auto second = options();
  second.name = "pods2";  // another node on this machine must not take the first one's link away
  EXPECT_EQ(PodNetwork::open(second).error().code, Errc::Conflict);
  EXPECT_FALSE(std::filesystem::exists(second.run_folder / second.name));  // nor leave a namespace that nobody uses
  ASSERT_TRUE(network->remove());
}

// Goal: an agent killed between making the link and naming it does not block the next one.
TEST_F(PodNetworkTest, AdoptsALinkThatWasNotNamedYet) {
  auto first = PodNetwork::open(options());
  ASSERT_TRUE(first);
  auto netlink = os::Netlink::open();
  ASSERT_TRUE(netlink->set_alias(netlink->link(options().host_link)->index, ""));
  auto second = PodNetwork::open(options());
  ASSERT_TRUE(second) << second.error().what;
  EXPECT_TRUE(netlink->link(options().host_link)->alias.starts_with("skerry "));
  ASSERT_TRUE(second->remove());
}

TEST_F(PodNetworkTest, RefusesRangesThatOverlap) {
  auto bad = options();
  bad.services = *Ipv4Range::parse("10.42.0.0/16");
  EXPECT_EQ(PodNetwork::open(bad).error().code, Errc::Invalid);
}

// Goal: sshd and friends on 0.0.0.0 neither answer on a pod's address nor take a port from a pod.
TEST_F(PodNetworkTest, KeepsListenersOfTheHostOffPodAddresses) {
  auto network = PodNetwork::open(options());
  ASSERT_TRUE(network);
  const auto host = testing::listen_anywhere(8080);
  ASSERT_TRUE(host) << host.error().what;
  EXPECT_EQ(testing::connect_to("127.0.0.1", 8080), 0);
  EXPECT_EQ(testing::connect_to("10.42.0.7", 8080), ECONNREFUSED);
  const auto pod = network->listen(testing::address("10.42.0.7"), 8080);
  ASSERT_TRUE(pod) << pod.error().what;
  EXPECT_TRUE(testing::connect_and_accept("10.42.0.7", 8080, pod->get()));
  ASSERT_TRUE(network->remove());
}

TEST_F(PodNetworkTest, SaysWhatIsMissingWithoutRoot) {
  ASSERT_EQ(::seteuid(65534), 0);
  const auto refused = PodNetwork::open(options());
  ASSERT_EQ(::seteuid(0), 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::Denied) << refused.error().what;
}

}  // namespace
}  // namespace skerry::net
