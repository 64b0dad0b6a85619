// SPDX-License-Identifier: Apache-2.0
#include "http/in_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/test_main.h"

namespace skerry::http {
namespace {

Chunk chunk(std::string text) { return std::make_shared<const std::string>(std::move(text)); }

class Numbers final : public Stream {
 public:
  rt::Task<std::optional<Chunk>> next() override {
    if (at_ == 3) co_return std::nullopt;
    co_return chunk(std::to_string(at_++));
  }

 private:
  int at_ = 0;
};

class Fake final : public Handler {
 public:
  rt::Task<Response> handle(Request request) override {
    last = request;
    if (request.target == "/fail") co_return Fail({Errc::Internal, "disk gone"});
    if (request.target == "/throw") throw std::runtime_error("bug");
    Response response = make_response(request.target == "/teapot" ? 418 : 200, "text/plain", "body:");
    if (request.target != "/plain") response.stream = std::make_unique<Numbers>();
    co_return response;
  }
  Request last;
};

struct InProcess : ::testing::Test {
  Fake fake;
  InProcessTransport transport{fake};
  Result<Response> send(std::string target, BodyMode mode) {
    return rt::Loop::run_one(transport.send({.method = "GET", .target = std::move(target)}, mode, 1s));
  }
};

TEST_F(InProcess, MarksThePeerAsThisProcess) {
  ASSERT_TRUE(send("/plain", BodyMode::Whole).has_value());
  EXPECT_TRUE(fake.last.peer.in_process);
  EXPECT_EQ(fake.last.peer.address, "in-process");
}

TEST_F(InProcess, CollectsAStreamWhenTheWholeBodyIsAsked) {
  auto response = send("/stream", BodyMode::Whole);
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->text(), "body:012");
  EXPECT_EQ(response->stream, nullptr);
}

TEST_F(InProcess, StreamsABodyAndItsChunksInOrder) {
  auto response = send("/stream", BodyMode::Streamed);
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->body, nullptr);
  EXPECT_EQ(rt::Loop::run_one(collect(std::move(response->stream), 100)).value(), "body:012");
  auto plain = send("/plain", BodyMode::Streamed);
  EXPECT_EQ(rt::Loop::run_one(collect(std::move(plain->stream), 100)).value(), "body:");
}

TEST_F(InProcess, GivesAnErrorAnswerWholeThoughStreamed) {
  auto response = send("/teapot", BodyMode::Streamed);
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->stream, nullptr);
  EXPECT_EQ(response->text(), "body:012");
}

TEST_F(InProcess, TurnsErrorsAndExceptionsInto500) {
  {
    ExpectErrorLog expected("disk gone");
    EXPECT_EQ(send("/fail", BodyMode::Whole)->status, 500);
  }
  ExpectErrorLog expected("request threw");
  EXPECT_EQ(send("/throw", BodyMode::Whole)->status, 500);
}

TEST(Collect, StopsAtItsLimit) {
  const auto whole = rt::Loop::run_one(collect(stream_of(chunk("abcd")), 3));
  ASSERT_FALSE(whole.has_value());
  EXPECT_EQ(whole.error().code, Errc::Exhausted);
  EXPECT_EQ(rt::Loop::run_one(collect(stream_of(nullptr), 3)).value(), "");
}

}  // namespace
}  // namespace skerry::http
