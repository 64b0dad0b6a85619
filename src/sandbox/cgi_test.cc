// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "sandbox/cgi_environment.h"
#include "sandbox/cgi_response.h"

namespace skerry::sandbox {
namespace {
using testing::Contains;
using testing::HasSubstr;

struct Parsed {
  Arena arena;
  Response response;
  std::string error;
  explicit Parsed(std::string_view output) {
    if (const auto result = parse_cgi_response(output, arena, response); !result) error = result.error().what;
  }
  std::string body() const { return std::string(response.body.view()); }
};

TEST(CgiResponse, HeadersBodyAndLineEnds) {
  const Parsed a("Content-Type: text/plain\n\nbody\n\nmore");
  EXPECT_EQ(a.error, "");
  EXPECT_EQ(a.response.status, 200);
  EXPECT_EQ(a.body(), "body\n\nmore");
  const Parsed b("Content-Type:text/plain\r\nX-A:  1 \r\n\r\n");
  EXPECT_EQ(b.error, "");
  EXPECT_EQ(*b.response.headers.find("x-a"), "1");
  EXPECT_EQ(b.body(), "");
}

TEST(CgiResponse, StatusAndLocation) {
  EXPECT_EQ(Parsed("Status: 404 Not Found\n\n").response.status, 404);
  EXPECT_EQ(Parsed("Status: 404\n\n").response.status, 404);
  EXPECT_EQ(Parsed("Location: /x\n\n").response.status, 302);
  EXPECT_EQ(Parsed("Location: /x\nStatus: 303 See Other\n\n").response.status, 303);
  EXPECT_EQ(Parsed("Status: 404\n\n").response.headers.find("status"), nullptr);
}

TEST(CgiResponse, WhatIsNoResponseIsSaid) {
  EXPECT_THAT(Parsed("").error, HasSubstr("wrote nothing"));
  EXPECT_THAT(Parsed("Content-Type: text/plain\n").error, HasSubstr("do not end"));
  EXPECT_THAT(Parsed("hello\n\n").error, HasSubstr("line 1 is no header"));
  EXPECT_THAT(Parsed("X-A: 1\n\nbody").error, HasSubstr("neither Content-Type"));
  EXPECT_THAT(Parsed("Status: 99\n\n").error, HasSubstr("Status"));
  EXPECT_THAT(Parsed("Status: 2000\n\n").error, HasSubstr("Status"));
  EXPECT_THAT(Parsed("Status: abc\n\n").error, HasSubstr("Status"));
  EXPECT_THAT(Parsed("X-A: a\rb\n\n").error, HasSubstr("control character"));
  EXPECT_THAT(Parsed(std::string(100'000, 'x')).error, HasSubstr("do not end"));
  std::string many;
  for (int i = 0; i < 300; ++i) many += "X-A: 1\n";
  EXPECT_THAT(Parsed(many + "\n").error, HasSubstr("more than 200"));
}

Request request(std::string_view uri) {
  Request r;
  r.method = "GET";
  r.uri = uri;
  r.version = "HTTP/1.1";
  r.source_address = "[fe80::1]:4711";
  r.host = "[::1]:8080";
  return r;
}

TEST(CgiEnvironment, PathIsDecodedAndTheRestIsRaw) {
  std::vector<std::string> env;
  ASSERT_TRUE(make_cgi_environment(request("/a%20b/%c3%a9?q=%20"), {.name = "n", .port = 80, .script = "s"}, {}, env));
  EXPECT_THAT(env, Contains("PATH_INFO=/a b/\xc3\xa9"));
  EXPECT_THAT(env, Contains("X_RAW_PATH_INFO=/a%20b/%c3%a9"));
  EXPECT_THAT(env, Contains("QUERY_STRING=q=%20"));
  EXPECT_THAT(env, Contains("REMOTE_ADDR=fe80::1"));
  EXPECT_THAT(env, Contains("REMOTE_PORT=4711"));
  EXPECT_THAT(env, Contains("SERVER_NAME=[::1]"));
  EXPECT_THAT(env, Contains("SERVER_PORT=8080"));
  for (const auto* bad : {"/%", "/%4", "/%zz", "/%00"}) EXPECT_FALSE(make_cgi_environment(request(bad), {}, {}, env)) << bad;
}

TEST(CgiEnvironment, SpareStringsOfAnEarlierRequestNeverShow) {
  std::vector<std::string> env;
  auto r = request("/");
  r.headers.append_view("X-Secret", "1");
  ASSERT_TRUE(make_cgi_environment(r, {}, {{"A", "1"}, {"B", "2"}}, env));
  EXPECT_THAT(env, Contains("HTTP_X_SECRET=1"));
  ASSERT_TRUE(make_cgi_environment(request("/"), {}, {{"HTTP_X_THING", "base"}}, env));
  EXPECT_THAT(env, testing::Not(Contains(HasSubstr("SECRET"))));
  EXPECT_THAT(env, testing::Not(Contains("A=1")));
  auto other = request("/");
  other.headers.append_view("X-Thing", "header");  // replaces the container's variable, does not join it
  ASSERT_TRUE(make_cgi_environment(other, {}, {{"HTTP_X_THING", "base"}}, env));
  EXPECT_THAT(env, Contains("HTTP_X_THING=header"));
}

TEST(CgiArguments, TheContainersOrTheQuerys) {
  std::vector<std::string> args;
  make_cgi_arguments(request("/?a=1&b"), {.name = "", .port = 80, .script = "prog"}, {}, args);
  EXPECT_THAT(args, testing::ElementsAre("prog", "a=1", "b"));
  make_cgi_arguments(request("/?a=1"), {.name = "", .port = 80, .script = "prog"}, {"-v"}, args);
  EXPECT_THAT(args, testing::ElementsAre("prog", "-v"));
  make_cgi_arguments(request("/"), {.name = "", .port = 80, .script = "prog"}, {}, args);
  EXPECT_THAT(args, testing::ElementsAre("prog"));
}

}  // namespace
}  // namespace skerry::sandbox
