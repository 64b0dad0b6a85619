// SPDX-License-Identifier: Apache-2.0
// Slices as the node shows them: who is ready according to this node, with and without its line, and its own slices for what the server
// has not told of. A trace is one line a change: the slice, and of each endpoint the last number of its address and its conditions.
#include "agent/local_slices.h"

#include <gmock/gmock.h>

#include <format>

#include "kube/json.h"

namespace skerry::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using State = LocalSlices::Pod::State;
using Line = LocalSlices::Line;

kube::ObjectPtr object(std::string_view json) { return kube::Object::from_json(std::string(json)).value(); }

class LocalSlicesTest : public ::testing::Test {
 protected:
  static LocalSlices::Pod pod(std::string_view name, int number, State state, bool stand_in = false, std::string_view ns = "default", std::string_view app = "a", std::string_view more = "") {
    return {.object = object(std::format(R"({{"kind":"Pod","metadata":{{"name":"{0}","namespace":"{2}","uid":"u-{0}","labels":{{"app":"{1}"}}}},)"
                                         R"("spec":{{{3}"containers":[{{"name":"c","ports":[{{"name":"web","containerPort":9090}}]}}]}}}})", name, app, ns, more)),
            .address = number == 0 ? "" : std::format("10.42.0.{}", number), .state = state, .stand_in = stand_in};
  }
  void service(std::string_view name, std::string_view spec = R"("selector":{"app":"a"},"ports":[{"name":"x","port":80,"targetPort":"web"}])", std::string_view ns = "default") {
    kube::put(services_, object(std::format(R"({{"kind":"Service","metadata":{{"name":"{}","namespace":"{}"}},"spec":{{{}}}}})", name, ns, spec)));
    slices_.services_changed();
  }
  static std::string endpoint(std::string_view name, int number, std::string_view conditions = R"("ready":true,"serving":true,"terminating":false)", std::string_view node = "edge-1") {
    return std::format(R"({{"addresses":["10.42.0.{}"],"conditions":{{{}}},"nodeName":"{}"{}}})", number, conditions, node,
                       name.empty() ? "" : std::format(R"(,"targetRef":{{"kind":"Pod","uid":"u-{}"}})", name));
  }
  static kube::ObjectPtr slice(std::string_view endpoints) {
    return object(std::format(R"({{"kind":"EndpointSlice","metadata":{{"name":"s-1","namespace":"default","labels":{{"kubernetes.io/service-name":"s"}}}},"endpoints":[{}]}})", endpoints));
  }
  static std::string text(const kube::ObjectPtr& slice) {
    std::string out;
    const auto doc = slice->parse();
    for (const kube::Json one : doc.root()["endpoints"].items()) {
      const kube::Json c = one["conditions"];
      const bool ready = c["ready"].boolean(true);
      const std::string address(one["addresses"][std::size_t{0}].str());
      out += std::format(" {}:{}{}{}", address.substr(address.rfind('.') + 1), ready ? "ready" : "", c["serving"].boolean(ready) == ready ? "" : ready ? "-serving" : "+serving", c["terminating"].boolean() ? "+terminating" : "");
    }
    return out;
  }
  std::vector<std::string> update(const std::vector<LocalSlices::Pod>& pods, Line line) {
    std::vector<std::string> out;
    for (const auto& [key, slice] : slices_.update(pods, line)) out.push_back(key.second + (slice ? text(slice) : " gone"));
    return out;
  }

  kube::Objects services_;
  LocalSlices slices_{"edge-1", services_};
};

TEST_F(LocalSlicesTest, WhileTheServerIsAwayThisNodeKnowsWhichOfItsPodsAreReady) {
  service("s");
  slices_.put(slice(endpoint("a", 3) + "," + endpoint("b", 4) + "," + endpoint("c", 5, R"("ready":false,"serving":false,"terminating":false)") + "," + endpoint("far", 6, R"("ready":true)", "edge-2")));
  EXPECT_THAT(update({pod("a", 3, State::Ready), pod("b", 4, State::Ready), pod("c", 5, State::Ready)}, Line::There), IsEmpty()) << "what the server says of those that may serve holds while it is there";
  EXPECT_THAT(update({pod("a", 3, State::Ready), pod("b", 4, State::NotReady), pod("c", 5, State::Ready)}, Line::Away), ElementsAre("s-1 3:ready 4: 5:ready 6:ready"));
  EXPECT_THAT(update({pod("a", 3, State::Ready), pod("b", 4, State::NotReady), pod("c", 5, State::Ready)}, Line::Away), IsEmpty());
  EXPECT_THAT(update({pod("a", 3, State::Gone), pod("b", 4, State::Ready), pod("c", 5, State::Leaving)}, Line::Away), ElementsAre("s-1 3: 4:ready 5:+serving+terminating 6:ready"));
  EXPECT_THAT(update({pod("a", 3, State::Ready), pod("b", 4, State::Ready), pod("c", 5, State::Ready)}, Line::There), ElementsAre("s-1 3:ready 4:ready 5: 6:ready")) << "its word again";
}

TEST_F(LocalSlicesTest, WhatSurelyDoesNotServeIsLeftOutWithTheLineToo) {
  const auto servers = slice(endpoint("a", 3) + "," + endpoint("b", 4));
  EXPECT_THAT(update({pod("a", 3, State::Ready), pod("b", 4, State::NotReady)}, Line::There), IsEmpty());
  EXPECT_EQ(text(slices_.put(servers)), " 3:ready 4:") << "a slice that comes later is corrected as it comes";
  EXPECT_EQ(text(slices_.shown(servers)), " 3:ready 4:") << "and shown so";
  EXPECT_THAT(update({pod("a", 3, State::Ready), pod("b", 4, State::Ready)}, Line::There), ElementsAre("s-1 3:ready 4:ready"));
  EXPECT_EQ(slices_.shown(servers), servers) << "the very same object";
}

// Goal: after a boot without network nothing is refused that will be served in a moment, and what is there already is preferred.
TEST_F(LocalSlicesTest, PodsOnTheirWayAreOfferedUntilAnotherIsReady) {
  slices_.put(slice(endpoint("a", 3) + "," + endpoint("b", 4)));
  EXPECT_THAT(update({pod("a", 3, State::OnItsWay), pod("b", 4, State::OnItsWay)}, Line::Away), IsEmpty());
  EXPECT_THAT(update({pod("a", 3, State::OnItsWay), pod("b", 4, State::Ready)}, Line::Away), ElementsAre("s-1 3: 4:ready"));
  EXPECT_THAT(update({pod("a", 3, State::Ready), pod("b", 4, State::Ready)}, Line::Away), ElementsAre("s-1 3:ready 4:ready"));
}

TEST_F(LocalSlicesTest, PublishNotReadyAddressesIsObeyedButForWhatIsGone) {
  service("s", R"("clusterIP":"None","publishNotReadyAddresses":true,"selector":{"app":"a"})");
  slices_.put(slice(endpoint("a", 3) + "," + endpoint("b", 4)));
  EXPECT_THAT(update({pod("a", 3, State::NotReady), pod("b", 4, State::Gone)}, Line::Away), ElementsAre("s-1 3:ready-serving 4:"));
  service("s");
  EXPECT_THAT(update({pod("a", 3, State::NotReady), pod("b", 4, State::Gone)}, Line::Away), ElementsAre("s-1 3: 4:")) << "it is obeyed no longer than it is said";
}

TEST_F(LocalSlicesTest, APodThatTheServerIsEndingIsNotReadyWhateverItSaysHere) {
  slices_.put(slice(endpoint("a", 3, R"("ready":false,"serving":false,"terminating":true)")));
  EXPECT_THAT(update({pod("a", 3, State::Ready)}, Line::Away), ElementsAre("s-1 3:+serving+terminating"));
}

TEST_F(LocalSlicesTest, AnAddressThatAnotherPodHasByNowIsNotOffered) {
  slices_.put(slice(endpoint("old", 3) + "," + endpoint("", 4)));
  EXPECT_THAT(update({pod("old", 0, State::Gone), pod("new", 3, State::Ready), pod("x", 4, State::NotReady)}, Line::Away), ElementsAre("s-1 3: 4:")) << "who names no pod means the one that has the address";
}

TEST_F(LocalSlicesTest, StandInsAreOfferedUnderTheServicesPortsLineOrNot) {
  service("s", R"("selector":{"app":"a"},"ports":[{"name":"x","port":80,"targetPort":"web"},{"name":"y","port":81,"targetPort":8081},{"name":"z","port":82},{"name":"w","port":83,"targetPort":"none"}])");
  service("other", R"("selector":{"app":"z"},"ports":[{"port":80}])");
  service("nobody", R"("ports":[{"port":80}])");
  service("s", R"("selector":{"app":"a"},"ports":[{"port":80}])", "elsewhere");
  const auto pods = [](State state) {
    return std::vector{pod("p", 9, State::Ready, true), pod("q", 10, state, true), pod("r", 11, State::Ready, true, "default", "b"), pod("t", 12, State::Ready, true, "third"), pod("u", 0, State::OnItsWay, true)};
  };
  EXPECT_THAT(update(pods(State::OnItsWay), Line::Away), ElementsAre("skerry-local-s 10: 9:ready"));
  const auto& own = slices_.own().at({"default", "skerry-local-s"});
  EXPECT_EQ(own->label("kubernetes.io/service-name"), "s");
  const auto doc = own->parse();
  EXPECT_EQ(doc.root()["endpoints"][std::size_t{0}]["nodeName"].str(), "edge-1");
  EXPECT_EQ(doc.root()["ports"].dump(), R"([{"name":"x","port":9090,"protocol":"TCP"},{"name":"y","port":8081,"protocol":"TCP"},{"name":"z","port":82,"protocol":"TCP"}])");
  EXPECT_THAT(update(pods(State::Ready), Line::There), ElementsAre("skerry-local-s 10:ready 9:ready"));
  EXPECT_THAT(update(pods(State::Leaving), Line::There), ElementsAre("skerry-local-s 10:+serving+terminating 9:ready"));
  services_.erase(services_.find("default/s"));
  slices_.services_changed();
  EXPECT_THAT(update(pods(State::Leaving), Line::There), ElementsAre("skerry-local-s gone"));
  service("s");
  EXPECT_THAT(update(pods(State::Leaving), Line::There), ElementsAre("skerry-local-s 10:+serving+terminating 9:ready"));
  EXPECT_THAT(update({}, Line::There), ElementsAre("skerry-local-s gone"));
}

// A pod that was bound just before the line went: the server's controller never heard that it is ready.
TEST_F(LocalSlicesTest, APodThatNoSliceNamesIsOfferedWhileTheServerIsAway) {
  service("s");
  slices_.put(slice(endpoint("a", 3)));
  const std::vector pods{pod("a", 3, State::Ready), pod("b", 4, State::Ready, false, "default", "a", R"("hostname":"b-0","subdomain":"s",)"), pod("c", 5, State::OnItsWay)};
  EXPECT_THAT(update(pods, Line::There), IsEmpty()) << "it is about to";
  EXPECT_THAT(update(pods, Line::Away), ElementsAre("skerry-local-s 4:ready"));
  EXPECT_THAT(*slices_.own().begin()->second->json(), HasSubstr(R"("hostname":"b-0")"));
  slices_.put(slice(endpoint("a", 3) + "," + endpoint("b", 4)));
  EXPECT_THAT(update(pods, Line::Away), ElementsAre("skerry-local-s gone"));
  slices_.remove({"default", "s-1"});
  EXPECT_THAT(update(pods, Line::Away), ElementsAre("skerry-local-s 3:ready 4:ready"));
}

}  // namespace
}  // namespace skerry::agent
