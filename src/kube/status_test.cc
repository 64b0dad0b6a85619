// SPDX-License-Identifier: Apache-2.0
// These texts are contract: clients compare them. They were recorded from a real API server.
#include "kube/status.h"

#include <gtest/gtest.h>

namespace skerry::kube {
namespace {

TEST(Status, TextsAreThoseOfKubernetes) {
  EXPECT_EQ(status_not_found("", "configmaps", "nope").json(),
            R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"configmaps \"nope\" not found",)"
            R"("reason":"NotFound","details":{"name":"nope","kind":"configmaps"},"code":404})");
  EXPECT_EQ(status_not_found("apps", "deployments", "a").message, R"(deployments.apps "a" not found)");
  EXPECT_EQ(status_unknown_path().json(),
            R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the server could not find the requested resource",)"
            R"("reason":"NotFound","details":{},"code":404})");
  EXPECT_EQ(status_already_exists("", "namespaces", "default").json(),
            R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"namespaces \"default\" already exists",)"
            R"("reason":"AlreadyExists","details":{"name":"default","kind":"namespaces"},"code":409})");
  EXPECT_EQ(status_conflict("", "configmaps", "live", kModified).json(),
            R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Operation cannot be fulfilled on configmaps \"live\": )"
            R"(the object has been modified; please apply your changes to the latest version and try again",)"
            R"("reason":"Conflict","details":{"name":"live","kind":"configmaps"},"code":409})");
  EXPECT_EQ(status_bad_request("the name of the object (dead) does not match the name on the URL (live)").json(),
            R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",)"
            R"x("message":"the name of the object (dead) does not match the name on the URL (live)","reason":"BadRequest","code":400})x");
  EXPECT_EQ(status_method_not_allowed().json(),
            R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the server does not allow this method on the )"
            R"(requested resource","reason":"MethodNotAllowed","details":{},"code":405})");
  EXPECT_EQ(status_success("", "configmaps", "live", "1169839b").json(),
            R"({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"live","kind":"configmaps","uid":"1169839b"}})");
  EXPECT_EQ(status_unauthorized().message, "Unauthorized");
  EXPECT_EQ(status_forbidden("", "nodes", "a", "not yours").message, R"(nodes "a" is forbidden: not yours)");
  EXPECT_EQ(status_too_many_requests("slow down", 2).details.retry_after_seconds, 2);
}

TEST(Status, EveryErrcHasAnAnswer) {
  for (const auto& [code, http] : {std::pair{Errc::NotFound, 404}, {Errc::AlreadyExists, 409}, {Errc::Conflict, 409}, {Errc::Gone, 410},
                                   {Errc::Invalid, 400}, {Errc::Unsupported, 501}, {Errc::Denied, 403}, {Errc::Unauthenticated, 401},
                                   {Errc::Exhausted, 429}, {Errc::Unavailable, 503}, {Errc::Timeout, 504}, {Errc::Cancelled, 503},
                                   {Errc::Corrupt, 500}, {Errc::Internal, 500}})
    EXPECT_EQ(status_of(Error(code, "x")).code, http) << to_string(code);
}

}  // namespace
}  // namespace skerry::kube
