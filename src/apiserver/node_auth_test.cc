// SPDX-License-Identifier: Apache-2.0
// Goal: a node's certificate may do what facts of the node contract list, and nothing else.
// Method: one cluster with two nodes, a pod on each, and objects that only one of them refers to; every request as node n1.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apiserver/testing.h"
#include "kube/digest.h"

namespace skerry::apiserver {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kDefault = "/api/v1/namespaces/default", kOther = "/api/v1/namespaces/other",
                           kLeases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

class NodeAuth : public ::testing::Test {
 protected:
  NodeAuth() {
    make("/api/v1/namespaces", R"({"metadata":{"name":"other"}})");
    for (const char* node : {"n1", "n2"}) {
      make("/api/v1/nodes", std::format(R"({{"metadata":{{"name":"{}","labels":{{"kubernetes.io/hostname":"{}"}}}}}})", node, node));
      make(std::string(kLeases), std::format(R"({{"metadata":{{"name":"{}"}},"spec":{{"holderIdentity":"{}","leaseDurationSeconds":40}}}})", node, node));
      make(std::format("{}/pods", kDefault),
           std::format(R"({{"metadata":{{"name":"on-{0}","labels":{{"app":"a"}}}},"spec":{{"nodeName":"{0}","serviceAccountName":"sa-{0}","imagePullSecrets":[{{"name":"pull-{0}"}}],)"
                       R"("containers":[{{"name":"c","image":"i","envFrom":[{{"configMapRef":{{"name":"of-{0}"}}}},{{"secretRef":{{"name":"of-{0}"}}}}],)"
                       R"("env":[{{"name":"K","valueFrom":{{"configMapKeyRef":{{"name":"key-{0}","key":"k"}}}}}}]}}]}}}})", node));
      for (const char* kind : {"configmaps", "secrets"}) {
        for (const char* stem : {"of-", "key-", "pull-"}) {
          for (const auto in : {kDefault, kOther}) make(std::format("{}/{}", in, kind), std::format(R"({{"metadata":{{"name":"{}{}"}}}})", stem, node));
        }
      }
      make(std::format("{}/serviceaccounts", kDefault), std::format(R"({{"metadata":{{"name":"sa-{}"}}}})", node));
    }
    s.as_node("n1");
  }
  void make(std::string_view target, std::string body) {
    const auto made = s.post(target, std::move(body));
    EXPECT_EQ(made.code, 201) << target << made.body;
  }
  int get(std::string_view in, std::string_view what) { return s.get(std::format("{}/{}", in, what)).code; }
  TestServer s;
};

TEST_F(NodeAuth, ReadsWhatItsPodsReferToAndNothingMore) {
  for (const char* mine : {"configmaps/of-n1", "configmaps/key-n1", "secrets/of-n1", "secrets/pull-n1", "serviceaccounts/sa-n1",
                           "configmaps?fieldSelector=metadata.name%3Dof-n1", "secrets?watch=1&fieldSelector=metadata.name%3Dof-n1"}) {
    EXPECT_EQ(get(kDefault, mine), 200) << mine;
    EXPECT_EQ(get(kOther, mine), 403) << "of the same name in another namespace: " << mine;
  }
  for (const char* theirs : {"configmaps/of-n2", "secrets/of-n2", "secrets/pull-n2", "secrets/key-n1", "configmaps/pull-n1", "serviceaccounts/sa-n2",
                             "serviceaccounts/default", "configmaps", "secrets", "serviceaccounts", "secrets?watch=1", "secrets?labelSelector=a",
                             "secrets?fieldSelector=metadata.name%21%3Dof-n2", "secrets?fieldSelector=metadata.name%3Dof-n2"}) {
    EXPECT_EQ(get(kDefault, theirs), 403) << theirs;
  }
  EXPECT_EQ(get(kDefault, "configmaps?watch=1&fieldSelector=metadata.name%3Dedge-config"), 200) << "is for all nodes";
  EXPECT_EQ(get(kOther, "configmaps/edge-config"), 403);
  EXPECT_EQ(get(kDefault, "secrets/edge-config"), 403);
  // Of a version that there is not.
  for (const char* other : {"/api/v9/namespaces/default/secrets?fieldSelector=metadata.name%3Dof-n1", "/apis/certificates.k8s.io/v9/certificatesigningrequests?fieldSelector=a%3Db"}) {
    EXPECT_EQ(s.get(other).code, 403) << other;
  }
  // One name over all namespaces would reach objects that no pod of the node refers to.
  for (const char* everywhere : {"secrets?fieldSelector=metadata.name%3Dof-n1", "configmaps?fieldSelector=metadata.name%3Dof-n1",
                                 "secrets?watch=1&fieldSelector=metadata.name%3Dof-n1", "secrets", "configmaps", "serviceaccounts"}) {
    EXPECT_EQ(get("/api/v1", everywhere), 403) << everywhere;
  }
  EXPECT_THAT(s.get(std::format("{}/secrets/of-n2", kDefault)).message(), HasSubstr("no relationship found between node 'n1' and this object"));
  for (const char* open : {"pods", "services", "nodes"}) EXPECT_EQ(get("/api/v1", open), 200) << open;
  EXPECT_EQ(s.get("/apis/node.k8s.io/v1/runtimeclasses").code, 200);
  EXPECT_EQ(s.get("/apis/discovery.k8s.io/v1/endpointslices").code, 200);
  for (const char* closed : {"/api/v1/events", "/api/v1/namespaces", "/apis/apps/v1/deployments", "/apis/apps/v1/replicasets", "/apis/batch/v1/jobs", "/metrics"}) {
    EXPECT_EQ(s.get(closed).code, 403) << closed;
  }
}

struct Write {
  const char* method;
  std::string target, body;
  int code;
  const char* says = "";
};
void PrintTo(const Write& write, std::ostream* out) { *out << write.method << ' ' << write.target << ' ' << write.body; }

TEST_F(NodeAuth, WritesItsOwnNodePodsAndLease) {
  const std::string pods = std::format("{}/pods", kDefault), leases(kLeases);
  const std::vector<Write> writes = {
      // Its Node.
      {"PATCH", "/api/v1/nodes/n1/status", R"({"status":{"conditions":[{"type":"Ready","status":"True"}]}})", 200},
      {"PATCH", "/api/v1/nodes/n1", R"({"metadata":{"labels":{"example.com/ok":"1","node.kubernetes.io/instance-type":"x"}}})", 200},
      {"PATCH", "/api/v1/nodes/n1", R"({"spec":{"unschedulable":true}})", 200},
      {"PATCH", "/api/v1/nodes/n1", R"({"metadata":{"labels":{"node-restriction.kubernetes.io/x":"1"}}})", 403, "not allowed to modify labels"},
      {"PATCH", "/api/v1/nodes/n1", R"({"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}})", 403, "not allowed to modify labels"},
      {"PATCH", "/api/v1/nodes/n1", R"({"metadata":{"labels":{"x.k8s.io/y":"1"}}})", 403, "not allowed to modify labels: x.k8s.io/y"},
      {"PATCH", "/api/v1/nodes/n1/status", R"({"metadata":{"labels":{"kubernetes.io/foo":"1"}}})", 403, "not allowed to modify labels"},
      {"PATCH", "/api/v1/nodes/n1", R"({"spec":{"taints":[]}})", 403, "not allowed to modify taints"},
      {"PATCH", "/api/v1/nodes/n1", R"({"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"x","uid":"u"}]}})", 403, "owner references"},
      {"DELETE", "/api/v1/nodes/n1", "", 403},
      // Others.
      {"PATCH", "/api/v1/nodes/n2", R"({"metadata":{"labels":{"a":"b"}}})", 403, "not allowed to modify node"},
      {"PATCH", "/api/v1/nodes/n2/status", R"({"status":{"phase":"x"}})", 403, "not allowed to modify node"},
      {"POST", "/api/v1/nodes", R"({"metadata":{"name":"n3"}})", 403, "not allowed to modify node"},
      {"DELETE", "/api/v1/nodes", "", 403},
      // Pods.
      {"PATCH", pods + "/on-n1/status", R"({"status":{"phase":"Running"}})", 200},
      {"PATCH", pods + "/on-n1/status", R"({"metadata":{"labels":{"app":"b"}}})", 403, "cannot update labels through pod status"},
      {"PATCH", pods + "/on-n1/status", R"({"metadata":{"labels":{"app":null}}})", 403, "cannot update labels through pod status"},
      {"PATCH", pods + "/on-n1", R"({"metadata":{"labels":{"app":"b"}}})", 403, "can only update the status of pods"},
      {"PATCH", pods + "/on-n2/status", R"({"status":{"phase":"Running"}})", 403, "with spec.nodeName set to itself"},
      {"POST", pods, R"({"metadata":{"name":"x"},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]}})", 403, "mirror pods"},
      {"POST", pods + "/on-n1/binding", R"({"target":{"name":"n1"}})", 403},
      {"POST", pods + "/on-n2/eviction", R"({"metadata":{"name":"on-n2"}})", 403},
      {"POST", pods + "/on-n1/eviction", R"({"metadata":{"name":"on-n1"}})", 403},
      {"DELETE", pods + "/on-n2", "", 403, "can only delete pods"},
      {"DELETE", pods, "", 403},
      {"GET", pods + "/on-n1/log", "", 403},
      // Leases.
      {"PATCH", leases + "/n1", R"({"spec":{"renewTime":"2026-11-23T00:00:00.000000Z"}})", 200},
      {"PATCH", leases + "/n2", R"({"spec":{"renewTime":"2026-11-23T00:00:00.000000Z"}})", 403, "with the same name as the requesting node"},
      {"POST", leases, R"({"metadata":{"name":"n3"}})", 403},
      {"GET", leases + "/n2", "", 403},
      {"GET", leases, "", 403},
      {"DELETE", leases + "/n1", "", 403},
      {"POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases", R"({"metadata":{"name":"n1"}})", 403, "kube-node-lease"},
      // Everything else.
      {"POST", std::format("{}/events", kDefault),
       R"({"metadata":{"name":"on-n1.1"},"involvedObject":{"kind":"Pod","namespace":"default","name":"on-n1"},"reason":"Started","type":"Normal"})", 201},
      {"PATCH", std::format("{}/events/on-n1.1", kDefault), R"({"count":2})", 403, "whose source.host is itself"},
      {"POST", std::format("{}/events", kDefault),
       R"({"metadata":{"name":"on-n1.2"},"involvedObject":{"kind":"Pod","namespace":"default","name":"on-n1"},"source":{"host":"n1"},"reason":"Started","type":"Normal"})", 201},
      {"PATCH", std::format("{}/events/on-n1.2", kDefault), R"({"count":2})", 200},
      {"PATCH", std::format("{}/events/on-n1.2", kDefault), R"({"source":{"host":"n2"}})", 403, "whose source.host is itself"},
      {"DELETE", std::format("{}/events/on-n1.1", kDefault), "", 403},
      {"PATCH", std::format("{}/configmaps/of-n1", kDefault), R"({"data":{"a":"b"}})", 403},
      {"DELETE", std::format("{}/secrets/of-n1", kDefault), "", 403},
      {"POST", std::format("{}/secrets", kDefault), R"({"metadata":{"name":"x"}})", 403},
      {"POST", std::format("{}/serviceaccounts/sa-n1/token", kDefault), "{}", 403},
      {"PATCH", std::format("{}/services/x", kDefault), "{}", 403},
      {"POST", "/api/v1/namespaces", R"({"metadata":{"name":"x"}})", 403},
      {"POST", "/apis/apps/v1/namespaces/default/deployments", "{}", 403},
      {"PATCH", "/apis/node.k8s.io/v1/runtimeclasses/x", "{}", 403},
  };
  for (const Write& write : writes) {
    const auto reply = s.send(write.method, write.target, write.body,
                              std::string_view(write.method) == "PATCH" ? "application/merge-patch+json" : "application/json");
    EXPECT_EQ(reply.code, write.code) << ::testing::PrintToString(write) << '\n' << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(write.says)) << ::testing::PrintToString(write);
  }
  EXPECT_EQ(s.remove(pods + "/on-n1", R"({"gracePeriodSeconds":0})").code, 200);
  EXPECT_EQ(get(kDefault, "secrets/of-n1"), 403) << "its pod is gone";
}

// Goal: a node sees what owns its pods, and may tell two things of such a Deployment that were changed at it (ADR 0036). Method: two
// Deployments of one form, a pod of the first on n1, one of the second on n2.
TEST_F(NodeAuth, ScalesAndRestartsTheDeploymentsOfItsPods) {
  s.as_admin();
  const std::string apps = "/apis/apps/v1/namespaces/default";
  for (const char* node : {"n1", "n2"}) {
    const std::string spec = std::format(R"("selector":{{"matchLabels":{{"d":"{0}"}}}},"template":{{"metadata":{{"labels":{{"d":"{0}"}}}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}})", node);
    const auto deployment = s.post(apps + "/deployments", std::format(R"({{"metadata":{{"name":"d-{}"}},"spec":{{{}}}}})", node, spec));
    ASSERT_EQ(deployment.code, 201) << deployment.body;
    const auto owner = [](std::string_view kind, const Reply& of) {
      return std::format(R"("ownerReferences":[{{"apiVersion":"apps/v1","kind":"{}","name":"{}","uid":"{}","controller":true}}])", kind, of.at("metadata.name"), of.at("metadata.uid"));
    };
    const auto set = s.post(apps + "/replicasets", std::format(R"({{"metadata":{{"name":"rs-{}",{}}},"spec":{{{}}}}})", node, owner("Deployment", deployment), spec));
    ASSERT_EQ(set.code, 201) << set.body;
    make(std::format("{}/pods", kDefault), std::format(R"({{"metadata":{{"name":"owned-{}",{}}},"spec":{{"nodeName":"{}","containers":[{{"name":"c","image":"i"}}]}}}})", node, owner("ReplicaSet", set), node));
  }
  s.as_node("n1");
  const std::string mine = apps + "/deployments/d-n1", theirs = apps + "/deployments/d-n2", at = R"("kubectl.kubernetes.io/restartedAt":"2026-01-01T00:00:00Z")";
  const auto annotate = [](std::string_view what) { return std::format(R"({{"spec":{{"template":{{"metadata":{{"annotations":{{{}}}}}}}}}}})", what); };
  const std::vector<Write> writes = {
      {"GET", mine, "", 200},
      {"GET", mine + "/scale", "", 200},
      {"GET", apps + "/replicasets/rs-n1", "", 200},
      {"GET", theirs, "", 403, "no relationship found between node 'n1' and this object"},
      {"GET", apps + "/replicasets/rs-n2", "", 403, "no relationship"},
      {"GET", apps + "/deployments/none", "", 403, "no relationship"},
      {"GET", apps + "/deployments", "", 403, "by name"},
      {"GET", apps + "/replicasets?watch=1", "", 403, "by name"},
      {"PATCH", mine + "/scale", R"({"spec":{"replicas":4}})", 200},
      {"PATCH", theirs + "/scale", R"({"spec":{"replicas":4}})", 403, "no relationship"},
      {"PUT", mine + "/scale", R"({"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"d-n1","namespace":"default"},"spec":{"replicas":5}})", 403},
      {"PATCH", mine, annotate(at), 200},
      {"PATCH", mine, annotate(R"("kubectl.kubernetes.io/restartedAt":null)"), 200},
      {"PATCH", mine, annotate(at + R"(,"other":"1")"), 403, "can only scale a deployment"},
      {"PATCH", mine, R"({"spec":{"replicas":9}})", 403, "can only scale a deployment"},
      {"PATCH", mine, R"({"metadata":{"labels":{"a":"b"}}})", 403, "can only scale a deployment"},
      {"PATCH", mine, R"({"spec":{"template":{"spec":{"containers":[{"name":"c","image":"evil"}]}}}})", 403, "can only scale a deployment"},
      {"PATCH", theirs, annotate(at), 403, "no relationship"},
      {"PATCH", mine + "/status", R"({"status":{"replicas":9}})", 403},
      {"PATCH", apps + "/replicasets/rs-n1/scale", R"({"spec":{"replicas":9}})", 403},
      {"DELETE", mine, "", 403},
  };
  for (const Write& write : writes) {
    const auto reply = s.send(write.method, write.target, write.body, std::string_view(write.method) == "PATCH" ? "application/merge-patch+json" : "application/json");
    EXPECT_EQ(reply.code, write.code) << ::testing::PrintToString(write) << '\n' << reply.body;
    EXPECT_THAT(reply.body, HasSubstr(write.says)) << ::testing::PrintToString(write);
  }
  EXPECT_EQ(s.get(mine).at("spec.replicas"), "4");
}

TEST_F(NodeAuth, ANameAloneMakesNoNode) {
  s.groups = {};
  EXPECT_EQ(get("/api/v1", "pods"), 403);
  s.user = "system:node:";
  s.groups = {"system:nodes"};
  EXPECT_EQ(get("/api/v1", "pods"), 403);
  s.user = "somebody";
  EXPECT_EQ(get("/api/v1", "pods"), 403);
}

TEST_F(NodeAuth, AnAdministratorMaySpeakForOthersAndNobodyElseMay) {
  s.headers = {{"Impersonate-User", "admin"}, {"Impersonate-Group", "system:masters"}};
  EXPECT_THAT(s.get("/api/v1/pods").message(), HasSubstr(R"(User "system:node:n1" cannot impersonate resource "users")"));
  s.as_admin();
  s.headers = {{"impersonate-user", "system:node:n2"}, {"Impersonate-Group", "system:nodes"}};
  EXPECT_EQ(get(kDefault, "secrets/of-n2"), 200);
  EXPECT_EQ(get(kDefault, "secrets/of-n1"), 403);
  EXPECT_EQ(s.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}").at("status.userInfo.username"), "system:node:n2");
  s.headers = {{"Impersonate-User", "somebody"}};
  EXPECT_EQ(get("/api/v1", "pods"), 403);
  s.headers = {{"Impersonate-Group", "system:masters"}};
  EXPECT_EQ(get("/api/v1", "pods"), 400);
  s.headers = {{"Impersonate-User", "a"}, {"Impersonate-Extra-Scopes", "b"}};
  EXPECT_EQ(get("/api/v1", "pods"), 400);
}

TEST_F(NodeAuth, ReviewsSayWhatTheRulesSay) {
  const auto may = [&](std::string_view attributes) {
    return s.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                  std::format(R"({{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{{{}}}}})", attributes));
  };
  EXPECT_EQ(may(R"("resourceAttributes":{"verb":"get","resource":"secrets","namespace":"default","name":"of-n1"})").at("status.allowed"), "true");
  const auto refused = may(R"("resourceAttributes":{"verb":"get","resource":"secrets","namespace":"default","name":"of-n2"})");
  EXPECT_EQ(refused.code, 201);
  EXPECT_EQ(refused.at("status.allowed"), "false");
  EXPECT_THAT(refused.at("status.reason"), HasSubstr("no relationship"));
  EXPECT_EQ(may(R"("resourceAttributes":{"verb":"list","resource":"secrets"})").at("status.allowed"), "false");
  EXPECT_EQ(may(R"("resourceAttributes":{"verb":"list","group":"batch","resource":"jobs"})").at("status.allowed"), "false");
  EXPECT_EQ(may(R"("nonResourceAttributes":{"verb":"get","path":"/version"})").at("status.allowed"), "true");
  EXPECT_EQ(may(R"("nonResourceAttributes":{"verb":"get","path":"/metrics"})").at("status.allowed"), "false");
  EXPECT_EQ(may("").code, 400);
  const auto me = s.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}");
  EXPECT_EQ(me.at("status.userInfo.username"), "system:node:n1") << me.body;
  EXPECT_EQ(s.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", R"({"spec":{"namespace":"default"}})").at("status.incomplete"), "true");
  EXPECT_EQ(s.get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").code, 405);
  s.as_admin();
  EXPECT_EQ(may(R"("resourceAttributes":{"verb":"*","group":"*","resource":"*"})").at("status.allowed"), "true");
  EXPECT_THAT(s.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "{}").body, HasSubstr(R"("verbs":["*"],"apiGroups":["*"],"resources":["*"])"));
}

// Goal: with its Lease a node learns what the server holds for it, if it asks. Method: the digest of the listed objects, before and after
// a change that concerns another node and one that concerns this one.
TEST_F(NodeAuth, TellsTheDigestsOfWhatIsThereForIt) {
  const std::string lease = std::format("{}/n1", kLeases);
  const auto asked = [&](std::string_view header) {
    s.headers = header.empty() ? decltype(s.headers){} : decltype(s.headers){{std::string(header), "?"}};
    const auto reply = s.merge(lease, R"({"spec":{"renewTime":"2026-01-01T00:00:00.000000Z"}})");
    s.headers.clear();
    EXPECT_EQ(reply.code, 200) << reply.body;
    return std::string(reply.headers.get(kube::kDigestHeader));
  };
  EXPECT_EQ(asked(""), "") << "only who asks pays for it";
  const std::string first = asked(kube::kDigestHeader);
  kube::Digest pods;
  const auto list = s.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").doc();
  for (const auto item : list.root()["items"].items()) {
    kube::JsonEdit whole = kube::JsonEdit::copy(item);
    whole.root().set("kind", "Pod");
    whole.root().set("apiVersion", "v1");
    pods.add(*kube::Object::from_json(whole.dump()).value());
  }
  EXPECT_EQ(pods.count(), 1u);
  ASSERT_TRUE(kube::parse_digests(first)) << first;
  EXPECT_EQ(kube::parse_digests(first)->front(), std::pair(std::string("pods"), pods.value()));
  s.as_node("n2");
  EXPECT_EQ(s.merge(std::format("{}/pods/on-n2/status", kDefault), R"({"status":{"phase":"Running"}})").code, 200);
  s.as_node("n1");
  EXPECT_EQ(asked(kube::kDigestHeader), first);
  EXPECT_EQ(s.merge(std::format("{}/pods/on-n1/status", kDefault), R"({"status":{"phase":"Running"}})").code, 200);
  EXPECT_NE(asked(kube::kDigestHeader), first);
}

// Goal: the digest of what a node's pods refer to is that of exactly these objects. Method: by hand from what the node may read; then changes
// of one that is its own, of others', a pod more, and pods that have ended.
TEST_F(NodeAuth, TellsTheDigestOfWhatItsPodsReferTo) {
  const auto told = [&] {
    s.headers = {{std::string(kube::kDigestHeader), "?"}};
    const auto reply = s.merge(std::format("{}/n1", kLeases), R"({"spec":{"renewTime":"2026-01-01T00:00:00.000000Z"}})");
    s.headers.clear();
    const auto digests = kube::parse_digests(reply.headers.get(kube::kDigestHeader));
    return digests && digests->back().first == "references" ? digests->back().second : 0;
  };
  const auto of = [&](std::vector<std::string_view> names) {
    kube::Digest out;
    for (const auto name : names) out.add(*kube::Object::from_json(s.get(std::format("{}/{}", kDefault, name)).body).value());
    return out.value();
  };
  const auto write = [&](std::string_view target, std::string_view body) {
    s.as_admin();
    EXPECT_EQ(s.merge(target, std::string(body)).code, 200) << target;
    s.as_node("n1");
  };
  const std::uint64_t first = told();
  EXPECT_EQ(first, of({"configmaps/of-n1", "configmaps/key-n1", "secrets/of-n1", "secrets/pull-n1"}));
  write(std::format("{}/secrets/of-n2", kDefault), R"({"metadata":{"labels":{"a":"b"}}})");
  write(std::format("{}/secrets/of-n1", kOther), R"({"metadata":{"labels":{"a":"b"}}})");
  EXPECT_EQ(told(), first) << "others'";
  write(std::format("{}/secrets/of-n1", kDefault), R"({"metadata":{"labels":{"a":"b"}}})");
  const std::uint64_t second = told();
  EXPECT_NE(second, first);
  EXPECT_EQ(second, of({"configmaps/of-n1", "configmaps/key-n1", "secrets/of-n1", "secrets/pull-n1"}));
  s.as_admin();
  make(std::format("{}/pods", kDefault), R"({"metadata":{"name":"more"},"spec":{"nodeName":"n1","volumes":[{"name":"v","projected":{"sources":[{"configMap":{"name":"of-n2"}}]}}],)"
                                         R"("containers":[{"name":"c","image":"i"}]}})");
  s.as_node("n1");
  EXPECT_EQ(told(), second + of({"configmaps/of-n2"}));
  for (const char* pod : {"more", "on-n1"}) write(std::format("{}/pods/{}/status", kDefault, pod), R"({"status":{"phase":"Succeeded"}})");
  EXPECT_EQ(told(), 0u) << "what has ended needs nothing";
}

}  // namespace
}  // namespace skerry::apiserver
