// SPDX-License-Identifier: Apache-2.0
#include "sandbox/assignment.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

namespace skerry::sandbox {
namespace {

Assignment full() {
  Assignment a;
  a.pod_uid = "f3b1";
  a.pod_namespace = "default";
  a.pod_name = "edge-service-7d9f";
  a.container_name = "edge";
  a.image_ref = "registry.example.com/edge-service:latest";
  a.kind = GuestKind::Wagi;
  a.isolation = Isolation::PerRequest;
  a.env = {{"REGION", "eu"}, {"EMPTY", ""}};
  a.args = {"--verbose", ""};
  a.config = std::string("a\0b", 3);
  a.server_name = "edge.local";
  a.server_port = 8080;
  a.workers = 3;
  a.idle_after = Duration::zero();
  a.memory_bytes_max = 64u << 20;
  return a;
}

TEST(Assignment, EveryFieldComesBack) {
  const auto bytes = encode(full());
  ASSERT_TRUE(bytes) << bytes.error().what;
  const auto back = decode(*bytes);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(*back, full());
}

TEST(Assignment, EveryTruncationAndTrailingByteIsCorrupt) {
  const auto bytes = encode(full()).value();
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const auto back = decode(std::string_view(bytes).substr(0, n));
    ASSERT_FALSE(back) << n;
    EXPECT_EQ(back.error().code, Errc::Corrupt) << n;
  }
  EXPECT_EQ(decode(bytes + "x").error().code, Errc::Corrupt);
}

TEST(Assignment, EveryFlippedByteIsRefusedOrInBounds) {
  const auto bytes = encode(full()).value();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    auto bad = bytes;
    bad[i] = static_cast<char>(bad[i] ^ 0xff);
    const auto back = decode(bad);
    EXPECT_TRUE(!back || encode(*back)) << i;
  }
}

TEST(Assignment, BoundsNameTheField) {
  auto a = full();
  a.env.emplace_back("A=B", "x");
  EXPECT_THAT(encode(a).error().what, testing::HasSubstr("'A=B' is no variable name"));
  a = full();
  a.memory_bytes_max = 1;
  EXPECT_THAT(encode(a).error().what, testing::HasSubstr("memory limit"));
  a = full();
  a.header_timeout = Duration::zero();
  EXPECT_THAT(encode(a).error().what, testing::HasSubstr("header timeout"));
  a = full();
  a.config.assign(Assignment::kConfigMax + 1, 'x');
  EXPECT_THAT(encode(a).error().what, testing::HasSubstr("config"));
}

TEST(Assignment, MemfdIsSealedAndAnUnsealedOneIsRefused) {
  const auto fd = seal_assignment(full());
  ASSERT_TRUE(fd);
  EXPECT_LT(write(*fd, "x", 1), 0);
  EXPECT_LT(ftruncate(*fd, 0), 0);
  EXPECT_EQ(read_assignment(*fd).value(), full());
  close(*fd);
  const int plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  EXPECT_THAT(read_assignment(plain).error().what, testing::HasSubstr("not sealed"));
  close(plain);
}

}  // namespace
}  // namespace skerry::sandbox
