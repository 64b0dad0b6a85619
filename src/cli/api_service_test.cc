// SPDX-License-Identifier: Apache-2.0
#include "cli/api_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apiserver/testing.h"
#include "http/in_process.h"

namespace skerry::cli {
namespace {

using ::testing::HasSubstr;

// On a real API server, in memory.
struct ApiServiceTest : ::testing::Test {
  apiserver::TestServer server;
  http::InProcessTransport transport{*server.api};
  client::Client client{transport};
  Result<> publish(const Endpoint& listen) { return run_on(server.loop, publish_api_service(client, api_service(listen, "10.43.0.0/16").value())); }
  std::string slice(const char* path) { return server.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").at(path); }
};

TEST_F(ApiServiceTest, LeadsToWhereTheApiListensNow) {
  ASSERT_TRUE(publish({"192.0.2.1", 6443}).has_value());
  const auto service = server.get("/api/v1/namespaces/default/services/kubernetes");
  EXPECT_EQ(service.at("spec.clusterIP"), "10.43.0.1");
  EXPECT_THAT(service.at("spec.ports"), HasSubstr(R"("port":443)"));
  EXPECT_THAT(slice("endpoints"), HasSubstr(R"("192.0.2.1")"));
  ASSERT_TRUE(publish({"192.0.2.9", 7443}).has_value());
  EXPECT_THAT(slice("endpoints"), HasSubstr(R"("192.0.2.9")"));
  EXPECT_THAT(slice("ports"), HasSubstr("7443"));
  // The same again writes nothing.
  const std::string revision = slice("metadata.resourceVersion");
  ASSERT_TRUE(publish({"192.0.2.9", 7443}).has_value());
  EXPECT_EQ(slice("metadata.resourceVersion"), revision);
}

TEST_F(ApiServiceTest, HasNothingBehindItWhereOthersCouldNotReachIt) {
  ASSERT_TRUE(publish({"192.0.2.1", 6443}).has_value());
  for (const char* address : {"127.0.0.1", "0.0.0.0", "::1"}) {
    ASSERT_TRUE(publish({address, 6443}).has_value()) << address;
    EXPECT_EQ(slice("reason"), "NotFound") << address;
  }
  EXPECT_EQ(server.get("/api/v1/namespaces/default/services/kubernetes").at("spec.clusterIP"), "10.43.0.1");
  EXPECT_EQ(api_service({"127.0.0.1", 6443}, "10.43.0.0").error().code, Errc::Invalid);
}

}  // namespace
}  // namespace skerry::cli
