// SPDX-License-Identifier: Apache-2.0
#include "sandbox/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "os/memfd.h"
#include "os/seqpacket.h"
#include "sandbox/keeper_client.h"

namespace skerry::sandbox {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

const PodSpec kSpec{.id = 0x1122334455667788, .image = "sha256:abc", .memory_bytes_max = 128u << 20, .cpu_millis_max = 500,
                    .cpu_millis_requested = 100, .workers = 2};
const std::vector<std::pair<Command, std::size_t>> kCommands = {
    {Hello{}, 0}, {PutImage{"sha256:abc", "registry.example.com/x", {1, 2, 3}}, 1}, {DropImage{"sha256:abc"}, 0},
    {PutPod{kSpec}, 4}, {StopPod{5, 30000}, 0}, {DropPod{5}, 0}, {Relog{5}, 1}, {Dump{}, 0}, {Refilled{}, 0}, {Shutdown{1000}, 0}};
const std::vector<std::pair<Event, std::size_t>> kEvents = {
    {Welcome{1, 42, Hardening::Full, CgroupKind::V1, 3, 2}, 0}, {ImageReady{"k", 9, 1234}, 0}, {ImageFailed{"k", "why"}, 0},
    {PodAwake{5, {99, 1, 7}, 650}, 0}, {PodIdle{5}, 0}, {PodExited{5, {99, 1, 7}, -1, 9, true, 3, 4, "text"}, 0}, {PodStopped{5}, 0},
    {PodHeld{5, 2000, 4}, 0}, {Refused{4, 5, "no"}, 0}, {DumpedImage{"k", true}, 0},
    {DumpedPod{kSpec, PodState::Awake, {{99, 0, 7}, {100, 1, 8}}}, 3}, {DumpEnd{}, 0},
    {SandboxLost{7, 2, 3}, 0}, {FoundPod{7, {{99, 0, 7}, {100, 1, 8}}}, 3}};

TEST(Protocol, EveryMessageComesBackAsItWas) {
  for (const auto& [command, fds] : kCommands) {
    const auto back = decode_command(bytes_of(encode(command)), fds);
    ASSERT_TRUE(back) << back.error().what;
    EXPECT_TRUE(*back == command) << command.index();
  }
  for (const auto& [event, fds] : kEvents) {
    const auto back = decode_event(bytes_of(encode(event)), fds);
    ASSERT_TRUE(back) << back.error().what;
    EXPECT_TRUE(*back == event) << event.index();
  }
}

TEST(Protocol, EveryTruncationAndEveryAppendedByteIsRefused) {
  for (const auto& [command, fds] : kCommands) {
    const auto bytes = encode(command);
    for (std::size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decode_command(bytes_of(bytes.substr(0, n)), fds));
    EXPECT_FALSE(decode_command(bytes_of(bytes + '\0'), fds));
  }
  for (const auto& [event, fds] : kEvents) {
    const auto bytes = encode(event);
    for (std::size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decode_event(bytes_of(bytes.substr(0, n)), fds));
  }
}

TEST(Protocol, WrongNumberOfDescriptorsIsRefused) {
  for (const auto& [command, fds] : kCommands) {
    EXPECT_FALSE(decode_command(bytes_of(encode(command)), 5));
    if (fds > 1) {
      EXPECT_FALSE(decode_command(bytes_of(encode(command)), 2));
    }
  }
}

TEST(Protocol, ValuesOutOfBoundsAreNamed) {
  const auto refused = [](PodSpec spec) {
    const auto result = decode_command(bytes_of(encode(PutPod{spec})), 4);
    return result ? std::string("accepted") : result.error().what;
  };
  auto spec = kSpec;
  spec.workers = 0;
  EXPECT_THAT(refused(spec), ::testing::HasSubstr("workers 0"));
  spec = kSpec;
  spec.memory_bytes_max = 1 << 20;
  EXPECT_THAT(refused(spec), ::testing::HasSubstr("memory limit 1048576 bytes"));
  spec = kSpec;
  spec.image.clear();
  EXPECT_THAT(refused(spec), ::testing::HasSubstr("image key is empty"));
}

TEST(Protocol, LongTextsAreCutNotRefused) {
  const auto bytes = encode(ImageFailed{"k", std::string(100'000, 'x')});
  ASSERT_LE(bytes.size(), kKeeperMessageMax);
  const auto back = decode_event(bytes_of(bytes), 0);
  ASSERT_TRUE(back);
  EXPECT_EQ(std::get<ImageFailed>(*back).text.size(), kKeeperTextMax);
}

TEST(KeeperClient, QueuesWhatTheKeeperDoesNotReadAndKeepsTheOrder) {
  char folder[] = "/tmp/skerry-client-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const auto path = std::filesystem::path(folder) / "socket";
  auto listener = os::listen_seqpacket(path).value();
  auto client = KeeperClient::connect(path);
  ASSERT_TRUE(client);
  os::UniqueFd keeper(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  ASSERT_TRUE(keeper);
  auto fd = os::make_memfd("log", "", os::Seal::Contents).value();
  const int fds[] = {fd.get()};
  std::uint64_t sent = 0;
  while (!client->pending() || sent % 16 != 0) ASSERT_TRUE(client->send(Relog{sent++}, fds));
  std::byte buffer[kKeeperMessageMax];
  ASSERT_TRUE(std::holds_alternative<Hello>(decode_command(os::receive_message(keeper.get(), buffer)->bytes, 0).value()));
  for (std::uint64_t id = 0; id < sent;) {
    auto received = os::receive_message(keeper.get(), buffer).value();
    if (received.state == os::Received::State::WouldBlock) {
      ASSERT_TRUE(client->flush());
      continue;
    }
    ASSERT_EQ(std::get<Relog>(decode_command(received.bytes, received.fds.size()).value()).id, id++);
  }
  EXPECT_FALSE(client->receive().value());
  keeper.reset();
  EXPECT_EQ(client->receive().error().code, Errc::Unavailable);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace skerry::sandbox
