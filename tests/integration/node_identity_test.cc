// SPDX-License-Identifier: Apache-2.0
// Goal: a node keeps its certificates good by itself, also over their end, a power cut and a server that does not sign; and what two
// machines with one node's credentials see.
// Method: API server, controllers and HTTPS front of `skerry server`; beside them the node's own parts as `skerry node` joins them:
// kubeconfig and data folder on the disk, HTTPS transport, Identity, NodeReporter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <format>
#include <optional>

#include "agent/identity.h"
#include "agent/node_reporter.h"
#include "apiserver/apiserver.h"
#include "base/text.h"
#include "cli/credentials.h"
#include "control/controllers.h"
#include "http/client.h"
#include "http/in_process.h"
#include "http/server.h"
#include "kube/json.h"
#include "os/file.h"
#include "pki/kubeconfig.h"
#include "pki/request.h"
#include "sql/faulty_vfs.h"
#include "tests/run_on.h"
#include "tests/test_main.h"

namespace skerry {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using namespace std::chrono;
namespace fs = std::filesystem;
using Purpose = agent::RenewalCore::Purpose;

constexpr Duration kDay = hours(24);
const client::ResourcePath kRequests{"certificates.k8s.io", "v1", "certificatesigningrequests", false};

// What `skerry node` is of a machine, as far as its credentials go.
class Node {
 public:
  Node(rt::Loop& loop, const fs::path& root, agent::MachineFacts machine, agent::RenewalCore::Options renewal = {}) : loop_(loop) {
    options_.data_dir = root;
    options_.kubeconfig = root / "given.kubeconfig";
    options_.node_name = agent_.node_name = "edge-1";
    options_.node_address = agent_.node_address = "192.0.2.1";
    agent_.lease_period = 20ms;
    agent_.status_period = 20ms;
    now_ = cli::read_node_credentials(layout(), options_, clock_.now()).value();
    transport_ = http::HttpsTransport::create(loop_, {.host = now_.config.host, .port = now_.config.port, .tls = tls()}).value();
    api_.emplace(*transport_);
    identity_.emplace(loop_, agent::Identity::Deps{.api = *api_, .disk = pool_, .clock = clock_, .random = random_, .take_up = [this] { return take_up(); }},
                      agent::Identity::Options{.node_name = "edge-1", .folder = layout().node_pki(), .renewal = renewal});
    CHECK(tell().has_value());
    identity_->on_event([this](agent::EventText event) { events.push_back(event.reason + ": " + event.message); });
    reporter_.emplace(loop_, *api_, clock_, random_, agent_, [] { return std::vector<agent::NodeImage>(); }, [machine] { return machine; });
    reporter_->standing().on_change([this](agent::Standing s) {
      standings.push_back(s);
      identity_->on_standing(s);
    });
    identity_->start();
    reporter_->start();
  }
  ~Node() {
    CHECK(run_on(loop_, identity_->stop()).has_value());
    CHECK(run_on(loop_, reporter_->stop()).has_value());
  }
  cli::DataLayout layout() const { return {options_.data_dir}; }
  std::optional<agent::StoredCertificate> stored(Purpose p) const { return agent::IdentityFolder::open(layout().node_pki())->load(p).value(); }
  std::string metrics() const {
    metrics::Exposition out;
    identity_->write_metrics(out);
    return std::move(out).finish();
  }
  pki::KeyPair shown() const { return {now_.config.client_certificate_pem, now_.config.client_key_pem}; }
  const pki::KeyPair& serving() const { return now_.serving; }
  bool reachable() const { return reporter_->reachable(); }

  std::vector<std::string> events;
  std::vector<agent::Standing> standings;
  bool cut = false;  // the power fails between the write of a new pair and its use

 private:
  http::ClientTls tls() const { return {.ca_pem = now_.config.ca_pem, .certificate_pem = now_.config.client_certificate_pem, .key_pem = now_.config.client_key_pem}; }
  Result<> tell() {
    TRY_OK(identity_->set(Purpose::Client, now_.client_managed, now_.authorities));
    return identity_->set(Purpose::Serving, now_.serving_managed, now_.authorities);
  }
  Result<> take_up() {
    if (cut) return Fail({Errc::Internal, "power cut"});
    TRY(now_, cli::read_node_credentials(layout(), options_, clock_.now()));
    TRY_OK(transport_->set_credentials(tls(), ""));
    return tell();
  }

  rt::Loop& loop_;
  SystemClock clock_;
  SystemRandom random_;
  cli::NodeOptions options_;
  agent::AgentOptions agent_;
  cli::NodeCredentials now_;
  rt::BlockingPool pool_{{.name = "disk"}};
  std::unique_ptr<http::HttpsTransport> transport_;
  std::optional<client::Client> api_;
  std::optional<agent::Identity> identity_;
  std::optional<agent::NodeReporter> reporter_;
};

class NodeIdentity : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skerry-node-identity-XXXXXX";
    root_ = ::mkdtemp(name);
    auto database = sql::Database::open("api.db", {.vfs = disk_.name()}, store::Store::migrations()).value();
    store_ = store::Store::open(loop_, clock_, std::move(database), {.resources = apiserver::ApiServer::store_resources()}).value();
    server_.emplace(*store_, clock_, random_, apiserver::Options{});
    CHECK(run_on(loop_, server_->bootstrap()).has_value());
    const auto pair = ca_.issue({.common_name = "kube-apiserver", .addresses = {"127.0.0.1"}, .usage = pki::Usage::Server}, clock_.now()).value();
    front_.emplace(loop_, *server_, http::Server::Options{.tls = http::ServerTls{pair.certificate_pem, pair.key_pem, ca_.pair().certificate_pem}});
    CHECK(front_->start().has_value());
    inside_.emplace(*server_);
    admin_.emplace(*inside_);
  }
  // Approves and signs, as `skerry server` does; without it a cluster never signs.
  void start_signing() {
    const auto sign = [this](std::string_view request, const pki::LeafSpec& spec) { return ca_.sign(request, spec, clock_.now()); };
    controllers_.emplace(loop_, *admin_, clock_, random_, control::Controllers::Options{.sign = sign});
    controllers_->start();
  }
  void TearDown() override {
    nodes_.clear();
    if (controllers_) (void)run_on(loop_, controllers_->stop());
    (void)run_on(loop_, store_->stop());
    (void)run_on(loop_, front_->stop(1s));
    controllers_.reset(), admin_.reset(), inside_.reset(), front_.reset(), server_.reset(), store_.reset();
    fs::remove_all(root_);
  }
  pki::KeyPair issue(Duration begun_before, Duration ends_in) {
    auto spec = spec_;
    const Time issued = clock_.now() - begun_before + pki::kBackdate;
    spec.validity = clock_.now() + ends_in - issued;
    return ca_.issue(spec, issued).value();
  }
  // A machine's data folder with a kubeconfig that an operator gave.
  fs::path give(const std::string& name, const pki::KeyPair& pair) {
    const fs::path folder = root_ / name;
    fs::create_directories(folder);
    const auto yaml = pki::to_yaml({.user = "node", .server = std::format("https://127.0.0.1:{}", front_->port()), .ca_pem = ca_.pair().certificate_pem, .client = pair, .token = {}, .namespace_ = {}});
    CHECK(os::write_file_atomically(folder / "given.kubeconfig", yaml, 0600).has_value());
    return folder;
  }
  Node& start(const fs::path& folder, std::string machine = "m1", agent::RenewalCore::Options renewal = {}) {
    agent::MachineFacts facts;
    facts.machine_id = std::move(machine);
    facts.system_uuid = "u";
    facts.architecture = "arm64";
    return *nodes_.emplace_back(std::make_unique<Node>(loop_, folder, facts, renewal));
  }
  bool until(const std::function<bool()>& done, Duration patience = 20s) {
    for (const auto end = steady_clock::now() + patience; !done();) {
      if (steady_clock::now() > end) return false;
      loop_.context().run_for(5ms);
    }
    return true;
  }
  // What the API answers to whoever holds this pair.
  int status_of(const pki::KeyPair& pair) {
    const auto way = http::HttpsTransport::create(loop_, {.host = "127.0.0.1", .port = front_->port(),
                                                          .tls = http::ClientTls{.ca_pem = ca_.pair().certificate_pem, .certificate_pem = pair.certificate_pem, .key_pem = pair.key_pem}}).value();
    return run_on(loop_, way->send(http::Request{.method = "GET", .target = "/api/v1/nodes/edge-1"}, http::BodyMode::Whole, 30s)).value().status;
  }
  std::vector<kube::ObjectPtr> requests(std::string_view signer) {
    std::vector<kube::ObjectPtr> out;
    auto all = run_on(loop_, admin_->list(kRequests, "")).value();
    for (auto& one : all.items)
      if (one->parse().root()["spec"]["signerName"].str().ends_with(signer)) out.push_back(std::move(one));
    return out;
  }
  std::size_t client_requests() { return requests("client-kubelet").size(); }
  std::string events() {
    std::string out;
    const auto all = run_on(loop_, admin_->list(client::kEvents, "")).value();
    for (const auto& one : all.items) out += one->parse().root().dump();
    return out;
  }
  void create_node() { CHECK(run_on(loop_, admin_->create(client::kNodes, "", R"({"apiVersion":"v1","kind":"Node","metadata":{"name":"edge-1"}})")).has_value()); }
  static std::string key_of(const pki::KeyPair& pair) { return pki::fingerprint_of(pair.key_pem).value(); }

  fs::path root_;
  sql::FaultyVfs disk_{"node-identity"};
  SystemClock clock_;
  SystemRandom random_;
  rt::Loop loop_;
  pki::CertificateAuthority ca_ = pki::CertificateAuthority::create("skerry", clock_.now() - kDay * 400).value();
  pki::LeafSpec spec_{.common_name = "system:node:edge-1", .organizations = {"system:nodes"}};
  std::unique_ptr<store::Store> store_;
  std::optional<apiserver::ApiServer> server_;
  std::optional<http::Server> front_;
  std::optional<http::InProcessTransport> inside_;
  std::optional<client::Client> admin_;
  std::optional<control::Controllers> controllers_;
  std::vector<std::unique_ptr<Node>> nodes_;
};

TEST_F(NodeIdentity, RenewsLateInItsLifeWithANewKeyAndWithoutARestart) {
  start_signing();
  const auto given = issue(kDay * 95, kDay * 5);
  const auto folder = give("one", given);
  const auto kubeconfig = os::read_small_file(folder / "given.kubeconfig").value();
  Node& node = start(folder);
  ASSERT_TRUE(until([&] { return key_of(node.shown()) != key_of(given) && node.stored(Purpose::Serving).has_value(); }));
  EXPECT_EQ(node.stored(Purpose::Client)->pair.certificate_pem, node.shown().certificate_pem);
  EXPECT_FALSE(node.stored(Purpose::Client)->key_kept);
  ASSERT_TRUE(until([&] { return status_of(given) == 401; })) << "the former is refused once the new one was used";
  EXPECT_EQ(status_of(node.shown()), 200);
  EXPECT_EQ(client_requests(), 1u);
  const auto serving = pki::inspect_certificate(node.serving().certificate_pem).value();
  EXPECT_EQ(serving.issuer_common_name, "skerry");
  EXPECT_THAT(serving.addresses, ::testing::ElementsAre("192.0.2.1"));
  EXPECT_THAT(serving.dns_names, ::testing::ElementsAre("edge-1"));
  EXPECT_EQ(os::read_small_file(folder / "given.kubeconfig").value(), kubeconfig) << "the operator's file is his";
  EXPECT_THAT(node.metrics(), AllOf(HasSubstr("skerry_agent_certificates_renewed_total{purpose=\"client\"} 1"), HasSubstr("certificates_renewed_total{purpose=\"serving\"} 1"),
                                    HasSubstr("kubelet_certificate_manager_client_ttl_seconds 3")));
  // The next start goes on with what it got.
  const auto shown = node.shown();
  nodes_.clear();
  Node& again = start(folder);
  EXPECT_EQ(again.shown().certificate_pem, shown.certificate_pem);
  ASSERT_TRUE(until([&] { return again.reachable(); }));
  EXPECT_EQ(client_requests(), 1u);
}

TEST_F(NodeIdentity, HalfOfItsLifeIsNoReason) {
  start_signing();
  Node& node = start(give("one", issue(kDay * 50, kDay * 50)));
  ASSERT_TRUE(until([&] { return node.stored(Purpose::Serving).has_value(); }));
  EXPECT_EQ(client_requests(), 0u);
  EXPECT_FALSE(node.stored(Purpose::Client));
}

TEST_F(NodeIdentity, EndedOfflineItIsRenewedWithItsKeyAndThenGetsANewOne) {
  start_signing();
  create_node();
  const auto given = issue(kDay * 100, -kDay * 2);
  Node& node = start(give("one", given));
  ASSERT_TRUE(until([&] { return key_of(node.shown()) != key_of(given) && node.reachable(); }));
  EXPECT_THAT(node.standings, Contains(agent::Standing::Ended));
  EXPECT_EQ(client_requests(), 2u);
  EXPECT_FALSE(node.stored(Purpose::Client)->key_kept);
  ASSERT_TRUE(until([&] { return node.stored(Purpose::Serving).has_value(); }));
  EXPECT_EQ(status_of(node.shown()), 200);
  EXPECT_EQ(status_of(given), 401);
  EXPECT_EQ(client_requests(), 2u) << "and then there is peace";
}

class PowerCut : public NodeIdentity, public ::testing::WithParamInterface<Duration> {};
INSTANTIATE_TEST_SUITE_P(OfOne, PowerCut, ::testing::Values(-kDay, kDay * 5), [](const auto& one) { return one.param < Duration{0} ? "ThatEnded" : "InItsLastTenth"; });

// Goal: a power cut at any point of a renewal leaves a node that comes back by itself. Method: cut while the request lies at the server,
// and between the write of what was signed and its use; then a start from the disk.
TEST_P(PowerCut, InTheMiddleOfARenewalIsSurvived) {
  start_signing();
  create_node();
  const auto given = issue(kDay * 100, GetParam());
  const auto folder = give("one", given);
  start(folder);
  ASSERT_TRUE(until([&] { return client_requests() == 1; }));
  nodes_.clear();  // nothing of it is on the disk, its new key neither
  Node& cut = start(folder);
  cut.cut = true;
  ASSERT_TRUE(until([&] { return cut.stored(Purpose::Client).has_value(); }));
  EXPECT_EQ(cut.stored(Purpose::Client)->key_kept, GetParam() < Duration{0});
  EXPECT_EQ(cut.shown().certificate_pem, given.certificate_pem);
  nodes_.clear();
  Node& node = start(folder);
  EXPECT_NE(node.shown().certificate_pem, given.certificate_pem) << "what was written is what is shown";
  ASSERT_TRUE(until([&] { return key_of(node.shown()) != key_of(given) && node.reachable(); }));
  EXPECT_FALSE(node.stored(Purpose::Client)->key_kept);
  EXPECT_EQ(status_of(node.shown()), 200);
  EXPECT_EQ(status_of(given), 401);
}

// A cluster that never signs: the present one is used on, and it is said once, with what to do.
TEST_F(NodeIdentity, WhereNobodySignsThePresentOneIsUsedOn) {
  const auto given = issue(kDay * 95, kDay * 5);
  Node& node = start(give("one", given), "m1", {.read_min = 10ms, .read_max = 20ms, .patience = 200ms});
  ASSERT_TRUE(until([&] { return node.events.size() == 2; }));
  EXPECT_THAT(node.events, ::testing::Each(AllOf(HasSubstr("CertificateWaits"), HasSubstr("kubectl certificate approve node-"))));
  until([] { return false; }, 300ms);
  EXPECT_EQ(node.events.size(), 2u) << "once for the client's and once for the serving certificate";
  EXPECT_TRUE(node.reachable());
  EXPECT_EQ(client_requests(), 1u);
  // Somebody approves and signs at last, days later: it is taken.
  start_signing();
  ASSERT_TRUE(until([&] { return node.shown().certificate_pem != given.certificate_pem; }));
}

TEST_F(NodeIdentity, ADeniedRequestIsSaidAndThePresentOneStays) {
  const auto given = issue(kDay * 95, kDay * 5);
  Node& node = start(give("one", given), "m1", {.read_min = 10ms, .read_max = 20ms});
  ASSERT_TRUE(until([&] { return client_requests() == 1; }));
  const auto name = requests("client-kubelet").front()->name();
  const auto denied = run_on(loop_, inside_->send(
      [&] {
        http::Request request{.method = "PATCH", .target = std::format("/apis/certificates.k8s.io/v1/certificatesigningrequests/{}/approval", name)};
        request.body = R"({"status":{"conditions":[{"type":"Denied","status":"True","reason":"Operator","message":"this machine was sold"}]}})";
        request.headers.set("Content-Type", "application/merge-patch+json");
        return request;
      }(), http::BodyMode::Whole, 30s)).value();
  ASSERT_EQ(denied.status, 200) << denied.text();
  ASSERT_TRUE(until([&] { return !node.events.empty(); }));
  EXPECT_THAT(node.events.front(), AllOf(HasSubstr("CertificateDenied"), HasSubstr("this machine was sold"), HasSubstr("the present one stays")));
  until([] { return false; }, 200ms);
  EXPECT_EQ(client_requests(), 1u);
  EXPECT_EQ(node.shown().certificate_pem, given.certificate_pem);
  EXPECT_TRUE(node.reachable());
}

// Goal: a second machine with the node's credentials is refused, both sides say so, and the first goes on.
TEST_F(NodeIdentity, ASecondMachineIsRefusedAndSaysItOnce) {
  start_signing();
  const auto given = issue(kDay * 10, kDay * 90);
  Node& first = start(give("first", given));
  ASSERT_TRUE(until([&] { return first.reachable(); }));
  const auto lease = run_on(loop_, admin_->get(client::kLeases, "kube-node-lease", "edge-1")).value();
  EXPECT_EQ(lease->parse().root()["metadata"]["annotations"]["skerry.dev/machine"].str(), "m1/u");
  ExpectErrorLog expected("the node is live on another one");
  Node& second = start(give("second", given), "m2");
  ASSERT_TRUE(until([&] { return !second.standings.empty() && events().find("MachineConflict") != std::string::npos; }));
  EXPECT_THAT(second.standings, ::testing::ElementsAre(agent::Standing::OtherMachine));
  EXPECT_FALSE(second.reachable());
  EXPECT_THAT(events(), AllOf(HasSubstr("m1/u"), HasSubstr("m2/u")));
  EXPECT_TRUE(first.reachable());
  EXPECT_EQ(run_on(loop_, admin_->get(client::kNodes, "", "edge-1")).value()->parse().root()["status"]["nodeInfo"]["machineID"].str(), "m1");
}

TEST_F(NodeIdentity, TheMachineIsAddedToALeaseThatLacksIt) {
  start_signing();
  Node& node = start(give("one", issue(kDay * 10, kDay * 90)));
  ASSERT_TRUE(until([&] { return node.reachable(); }));
  nodes_.clear();
  ASSERT_TRUE(run_on(loop_, admin_->patch(client::kLeases, "kube-node-lease", "edge-1", client::PatchType::Merge, R"({"metadata":{"annotations":{"skerry.dev/machine":null}}})")));
  Node& again = start(root_ / "one");
  ASSERT_TRUE(until([&] { return again.reachable(); }));
  EXPECT_EQ(run_on(loop_, admin_->get(client::kLeases, "kube-node-lease", "edge-1")).value()->parse().root()["metadata"]["annotations"]["skerry.dev/machine"].str(), "m1/u");
}

// An old backup of the data folder, on the same machine's name: refused for ever, said once, and no flood of requests.
TEST_F(NodeIdentity, AnOldBackupIsRefusedAndSaysItOnce) {
  start_signing();
  const auto given = issue(kDay * 95, kDay * 5);
  const auto backup = give("backup", given);
  {
    Node& node = start(give("one", given));
    ASSERT_TRUE(until([&] { return key_of(node.shown()) != key_of(given) && status_of(given) == 401; }));
  }
  nodes_.clear();
  const auto before = client_requests();
  ExpectErrorLog expected("another one uses a newer certificate of this node");
  Node& thief = start(backup);
  ASSERT_TRUE(until([&] { return !thief.standings.empty(); }));
  until([] { return false; }, 500ms);
  EXPECT_THAT(thief.standings, ::testing::ElementsAre(agent::Standing::Replaced));
  EXPECT_EQ(client_requests(), before);
  EXPECT_FALSE(thief.reachable());
  EXPECT_THAT(events(), HasSubstr("CertificateReplaced"));
}

}  // namespace
}  // namespace skerry
