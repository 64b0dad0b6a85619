// SPDX-License-Identifier: Apache-2.0
#include "net/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/text.h"
#include "net/testing_dns.h"
#include "net/testing_objects.h"

namespace skerry::net {
namespace {

using testing::object;
using testing::text_of;

// A cluster with one of everything.
Names cluster(Names::Options options = {.node = "edge-1"}) {
  Names names(options);
  names.set_complete();
  const auto service = [&](std::string_view ns, std::string_view name, std::string_view spec) {
    names.put_service(*object(
        std::format(R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}","namespace":"{}"}},"spec":{}}})",
                    name, ns, spec)));
  };
  const auto slice = [&](std::string_view ns, std::string_view of, std::string_view rest) {
    names.put_slice(*object(std::format(
        R"({{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"{1}-1","namespace":"{0}","labels":{{"kubernetes.io/service-name":"{1}"}}}},"addressType":"IPv4",{2}}})",
        ns, of, rest)));
  };
  service(
      "default", "web",
      R"({"clusterIP":"10.43.0.20","clusterIPs":["10.43.0.20"],"ports":[{"name":"http","port":80},{"name":"dns","port":53,"protocol":"UDP"}]})");
  slice(
      "default", "web",
      R"("ports":[{"name":"http","port":8080}],"endpoints":[{"addresses":["10.42.0.3"],"conditions":{"ready":true},"nodeName":"edge-1"}])");
  service("default", "plain", R"({"clusterIP":"10.43.0.21","ports":[{"port":80}]})");
  service("db", "store", R"({"clusterIP":"None","ports":[{"name":"sql","port":5432}]})");
  slice("db", "store", R"("ports":[{"name":"sql","port":5432}],"endpoints":[
      {"addresses":["10.42.0.5"],"hostname":"store-0","conditions":{"ready":true},"nodeName":"edge-1"},
      {"addresses":["10.42.0.6"],"hostname":"store-1","conditions":{"ready":false},"nodeName":"edge-1"},
      {"addresses":["10.42.0.7"],"conditions":{},"nodeName":"edge-1"},
      {"addresses":["10.42.0.8"],"hostname":"elsewhere","conditions":{"ready":true},"nodeName":"edge-2"}])");
  service("db", "forming",
          R"({"clusterIP":"None","publishNotReadyAddresses":true,"ports":[{"name":"sql","port":5432}]})");
  slice(
      "db", "forming",
      R"("ports":[{"name":"sql","port":5432}],"endpoints":[{"addresses":["10.42.0.9"],"hostname":"forming-0","conditions":{"ready":false}}])");
  service("db", "empty", R"({"clusterIP":"None","ports":[{"name":"sql","port":5432}]})");
  slice(
      "db", "empty",
      R"("ports":[{"name":"sql","port":5432}],"endpoints":[{"addresses":["10.42.0.10"],"conditions":{"ready":false}}])");
  service("out", "example", R"({"type":"ExternalName","externalName":"www.example.com."})");
  service("out", "alias", R"({"type":"ExternalName","externalName":"web.default.svc.cluster.local"})");
  service("out", "nowhere", R"({"type":"ExternalName","externalName":"none.default.svc.cluster.local"})");
  service("out", "loop", R"({"type":"ExternalName","externalName":"loop.out.svc.cluster.local"})");
  service("out", "number", R"({"type":"ExternalName","externalName":"192.0.2.7"})");
  service("out", "printer", R"({"clusterIP":"10.43.0.30","ports":[{"name":"ipp","port":631}]})");
  slice(
      "out", "printer",
      R"("ports":[{"name":"ipp","port":631}],"endpoints":[{"addresses":["192.168.7.9"],"conditions":{"ready":true}}])");
  return names;
}

std::string ask(const Names& names, const std::string& name, const std::string& type) {
  const auto answer = names.answer({.name = name, .type = testing::types().at(type)});
  if (!answer) return "not ours\n";
  return text_of(answer->message) + (answer->follow.empty() ? "" : "  follow: " + answer->follow + "\n");
}

// Goal: every kind of name and every way for it not to exist. Method: the questions of testdata/names.txt, "NAME TYPE"
// a line before "----"; UPDATE_GOLDEN=1 rewrites the answers.
TEST(Names, AnswersAsTheSpecificationSays) {
  const std::string path = std::string(SKERRY_SOURCE_DIR) + "/src/net/testdata/names.txt";
  std::ifstream file(path);
  std::stringstream expected;
  expected << file.rdbuf();
  const std::string text = expected.str();
  const Names names = cluster();
  std::string trace;
  bool question = true;
  for (const auto line : split(text, '\n')) {
    if (line.starts_with("#")) trace += std::string(line) + "\n";
    if (question && !line.empty() && line[0] != '#') {
      const auto space = line.find(' ');
      trace += std::string(line) + "\n----\n" +
               ask(names, std::string(line.substr(0, space)), std::string(line.substr(space + 1))) + "\n";
      question = false;
    }
    if (line.empty()) {
      question = true;
      if (trace.ends_with("\n") && !trace.ends_with("\n\n")) trace += "\n";
    }
  }
  if (std::getenv("UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << trace;
    return;
  }
  EXPECT_EQ(trace, text) << path;
  EXPECT_GT(trace.size(), 1000u);
}

TEST(Names, FollowWhatChanges) {
  Names names({.node = "edge-1"});
  EXPECT_EQ(ask(names, "web.default.svc.cluster.local", "A"), "SERVFAIL\n") << "nothing was said yet, so nobody knows";
  EXPECT_THAT(ask(names, "cluster.local", "SOA"), ::testing::StartsWith("NOERROR"));
  names.set_complete();
  EXPECT_THAT(ask(names, "web.default.svc.cluster.local", "A"), ::testing::StartsWith("NXDOMAIN"));
  names.put_service(*testing::service("web", "10.43.0.20", 80, 0));
  EXPECT_THAT(ask(names, "web.default.svc.cluster.local", "A"), ::testing::HasSubstr("10.43.0.20"));
  names.put_service(*testing::service("web", "10.43.0.21", 80, 0));
  EXPECT_THAT(ask(names, "web.default.svc.cluster.local", "A"), ::testing::HasSubstr("10.43.0.21"));
  EXPECT_THAT(ask(names, "20.0.43.10.in-addr.arpa", "PTR"), ::testing::StartsWith("NXDOMAIN"));
  EXPECT_THAT(ask(names, "cluster.local", "SOA"), ::testing::HasSubstr("hostmaster.cluster.local 3 "));
  names.remove_service("default", "web");
  EXPECT_THAT(ask(names, "web.default.svc.cluster.local", "A"), ::testing::StartsWith("NXDOMAIN"));
  EXPECT_THAT(ask(names, "default.svc.cluster.local", "A"), ::testing::StartsWith("NXDOMAIN"));
}

TEST(Names, AreOfTheZoneThatWasChosen) {
  const Names names = cluster({.zone = "edge.example", .node = "edge-1"});
  EXPECT_THAT(ask(names, "web.default.svc.edge.example", "A"), ::testing::HasSubstr("10.43.0.20"));
  EXPECT_EQ(ask(names, "web.default.svc.cluster.local", "A"), "not ours\n");
}

TEST(Names, ReverseZonesEndAtTheRange) {
  const Names names = cluster(
      {.node = "edge-1", .pods = {*Ipv4::parse("10.42.16.0"), 20}, .services = {*Ipv4::parse("10.43.0.16"), 28}});
  EXPECT_THAT(ask(names, "1.17.42.10.in-addr.arpa", "PTR"), ::testing::HasSubstr("authority: 17.42.10.in-addr.arpa"));
  EXPECT_EQ(ask(names, "1.32.42.10.in-addr.arpa", "PTR"), "not ours\n");
  EXPECT_EQ(ask(names, "42.10.in-addr.arpa", "SOA"), "not ours\n");
  EXPECT_THAT(ask(names, "17.42.10.in-addr.arpa", "SOA"), ::testing::StartsWith("NOERROR aa\n  17.42.10.in-addr.arpa"));
  EXPECT_THAT(ask(names, "20.0.43.10.in-addr.arpa", "PTR"), ::testing::HasSubstr("web.default"));
  EXPECT_EQ(ask(names, "0.43.10.in-addr.arpa", "SOA"), "not ours\n");
}

// What is asked for is hostile: no name may cost more than its own length.
TEST(Names, TakeAnyNameApart) {
  const Names names = cluster();
  for (const std::string name :
       {"", ".", "..", "\\", "a\\", "svc.cluster.local\\.x", "x\\.cluster.local", "..svc.cluster.local",
        "_._.web.default.svc.cluster.local", "arpa", "in-addr.arpa", "-1.0.42.10.in-addr.arpa"})
    for (const auto& [text, type] : testing::types()) (void)names.answer({.name = name, .type = type});
  EXPECT_EQ(ask(names, "x\\.cluster.local", "A"), "not ours\n") << "the dot is no separator";
}

}  // namespace
}  // namespace skerry::net
