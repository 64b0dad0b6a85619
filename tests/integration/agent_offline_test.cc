// SPDX-License-Identifier: Apache-2.0
// A node that was alone and comes back (agent_node.h): it resumes where it stopped, and recreates nothing.
#include "tests/integration/agent_node.h"
#include "tests/test_main.h"

namespace skerry::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class AgentOffline : public AgentNode {
 protected:
  void SetUp() override {
    AgentNode::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    stop_agent(OnStop::StopPods);
    start();
  }
  void start() {
    start_agent([](AgentOptions& o) { o.slow_write_period = 50ms; });
  }
  // Until what came last is on the disk.
  void settle() {
    loop_.context().run_for(std::chrono::milliseconds(1200));
  }
  // The lists that the node asked for since the last call.
  std::vector<std::string> lists() {
    std::vector<std::string> out;
    for (const std::string& request : std::exchange(line_->requests, {}))
      if (request.starts_with("GET ") && request.contains("limit=")) out.push_back(request);
    return out;
  }
};

// Goal: after a restart nothing is listed, and what happened meanwhile is heard of. Method: an agent stops; a pod is deleted, another
// made, a refused one deleted; the next agent's requests are looked at.
TEST_F(AgentOffline, ResumesItsWatchesWithoutAList) {
  create_pod("stays");
  create_pod("goes");
  create_pod("refused", R"("skerry.dev/idle-after":"300ms")", R"(,"stdin":true)");
  ASSERT_TRUE(until([&] { return is_ready("stays") && is_ready("goes"); }));
  ASSERT_TRUE(until([&] { return field("refused", "status").contains("stdin"); })) << field("refused", "status");
  const std::string statuses = field("stays", "status.containerStatuses"), ip = field("stays", "status.podIP");
  settle();
  stop_agent(OnStop::KeepPods);
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "goes")));
  ASSERT_TRUE(run_on(loop_, admin_->remove(client::kPods, "default", "refused")));
  create_pod("comes");
  lists();
  start();
  ASSERT_TRUE(until([&] { return is_ready("comes"); })) << field("comes", "status");
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "goes") == nullptr; }));
  ASSERT_TRUE(until([&] { return get(client::kPods, "default", "refused") == nullptr; }));
  EXPECT_THAT(lists(), IsEmpty());
  EXPECT_EQ(field("stays", "status.containerStatuses"), statuses);
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
}

// Goal: a machine without network that starts from its disk resumes too when the line is back. Method: as a reboot: no keeper, no
// process; the line is cut at the start.
TEST_F(AgentOffline, ResumesAfterAColdBootWithoutNetwork) {
  create_pod("web");
  ASSERT_TRUE(until([&] { return is_ready("web"); }));
  const std::string ip = field("web", "status.podIP"), uid = field("web", "metadata.uid");
  settle();
  stop_agent(OnStop::StopPods);
  line_->cut = true;
  start();
  ASSERT_TRUE(until([&] { return agent_->summary().ready == 1; }));
  EXPECT_THAT(call(ip), HasSubstr("200 OK"));
  lists();
  line_->cut = false;
  ASSERT_TRUE(until([&] { return agent_->summary().connected; }));
  settle();
  EXPECT_THAT(lists(), IsEmpty());
  EXPECT_EQ(field("web", "metadata.uid"), uid);
  EXPECT_EQ(field("web", "status.podIP"), ip);
  EXPECT_EQ(metric("skerry_agent_drift_total"), "0");
}

}  // namespace
}  // namespace skerry::agent
