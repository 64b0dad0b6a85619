// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>

#include "os/file.h"
#include "os/memfd.h"
#include "os/seqpacket.h"
#include "os/spawn.h"

namespace skerry::os {
namespace {

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/skerry-os-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }
std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(File, ReplacesAtomicallyAndLeavesNoTemporary) {
  Folder folder;
  const auto path = folder.path() / "state";
  ASSERT_TRUE(write_file_atomically(path, "one", 0600));
  ASSERT_TRUE(write_file_atomically(path, "two", 0600));
  EXPECT_EQ(read_small_file(path).value(), "two");
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0600u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(File, RefusesMoreThanTheLimit) {
  Folder folder;
  ASSERT_TRUE(write_file_atomically(folder.path() / "big", std::string(100, 'x')));
  EXPECT_EQ(read_small_file(folder.path() / "big", 100).value().size(), 100u);
  EXPECT_EQ(read_small_file(folder.path() / "big", 99).error().code, Errc::Exhausted);
  EXPECT_EQ(read_small_file(folder.path() / "none").error().code, Errc::NotFound);
}

TEST(File, ReadsWhatSaysItsSizeAndWhatDoesNot) {
  Folder folder;
  for (const std::size_t size : {0uz, 1uz, 16383uz, 16384uz, 16385uz, 100'000uz}) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 >> 3);
    ASSERT_TRUE(write_file_atomically(folder.path() / "f", bytes));
    EXPECT_EQ(read_small_file(folder.path() / "f").value(), bytes) << size;
    EXPECT_EQ(read_small_file(folder.path() / "f", size).value(), bytes) << size;
    if (size == 0) continue;
    EXPECT_EQ(read_small_file(folder.path() / "f", size - 1).error().code, Errc::Exhausted) << size;
  }
  EXPECT_TRUE(read_small_file("/proc/self/status").value().starts_with("Name:"));
  EXPECT_EQ(read_small_file("/proc/self/status", 10).error().code, Errc::Exhausted);
  EXPECT_EQ(read_small_file(folder.path()).error().what.substr(0, 5), "read ");
}

TEST(File, MakesFoldersAndNamesWhatIsInTheWay) {
  Folder folder;
  EXPECT_TRUE(make_folders(folder.path() / "a/b/c"));
  EXPECT_TRUE(make_folders(folder.path() / "a/b/c"));
  ASSERT_TRUE(write_file_atomically(folder.path() / "file", ""));
  EXPECT_EQ(make_folders(folder.path() / "file").error().code, Errc::AlreadyExists);
}

TEST(File, LockIsExclusiveUntilItsOwnerCloses) {
  Folder folder;
  auto first = lock_file(folder.path() / "lock");
  ASSERT_TRUE(first);
  EXPECT_EQ(lock_file(folder.path() / "lock").error().code, Errc::AlreadyExists);
  first->reset();
  EXPECT_TRUE(lock_file(folder.path() / "lock"));
}

TEST(Memfd, SealedContentsCannotChange) {
  auto fd = make_memfd("test", "secret", Seal::Contents);
  ASSERT_TRUE(fd);
  EXPECT_TRUE(memfd_is_sealed(fd->get(), Seal::Contents, 6));
  EXPECT_FALSE(memfd_is_sealed(fd->get(), Seal::Contents, 7));
  EXPECT_EQ(::pwrite(fd->get(), "x", 1, 0), -1);
  EXPECT_EQ(read_sealed_memfd(fd->get(), 100).value(), "secret");
  EXPECT_EQ(read_sealed_memfd(fd->get(), 5).error().code, Errc::Exhausted);
}

TEST(Memfd, SizeSealLetsBothSidesWrite) {
  auto fd = make_memfd_zeroed("page", 4096);
  ASSERT_TRUE(fd);
  EXPECT_EQ(::ftruncate(fd->get(), 0), -1);
  EXPECT_EQ(read_sealed_memfd(fd->get(), 8192).error().code, Errc::Invalid);
  auto writer = Mapping::map(fd->get(), 4096, Mapping::Access::ReadWrite);
  auto reader = Mapping::map(fd->get(), 4096, Mapping::Access::Read);
  ASSERT_TRUE(writer && reader);
  writer->bytes()[7] = std::byte{42};
  EXPECT_EQ(reader->bytes()[7], std::byte{42});
}

TEST(Seqpacket, CarriesBytesAndDescriptors) {
  auto pair = make_seqpacket_pair(SOCK_NONBLOCK).value();
  auto fd = make_memfd("passed", "hello", Seal::Contents).value();
  const int fds[] = {fd.get()};
  EXPECT_EQ(send_message(pair.first.get(), bytes_of("message"), fds).value(), SendOutcome::Sent);
  std::byte buffer[64];
  auto received = receive_message(pair.second.get(), buffer);
  ASSERT_TRUE(received);
  EXPECT_EQ(text_of(received->bytes), "message");
  ASSERT_EQ(received->fds.size(), 1u);
  EXPECT_EQ(read_sealed_memfd(received->fds[0].get(), 10).value(), "hello");
  EXPECT_EQ(receive_message(pair.second.get(), buffer)->state, Received::State::WouldBlock);
  pair.first.reset();
  EXPECT_EQ(receive_message(pair.second.get(), buffer)->state, Received::State::Closed);
  EXPECT_EQ(send_message(pair.second.get(), bytes_of("late")).error().code, Errc::Unavailable);
}

TEST(Seqpacket, RefusesAMessageLongerThanTheBuffer) {
  auto pair = make_seqpacket_pair(SOCK_NONBLOCK).value();
  ASSERT_TRUE(send_message(pair.first.get(), bytes_of(std::string(65, 'x'))));
  std::byte buffer[64];
  EXPECT_EQ(receive_message(pair.second.get(), buffer).error().code, Errc::Corrupt);
}

TEST(Seqpacket, ListensOnAPathForItsOwnerOnly) {
  Folder folder;
  const auto path = folder.path() / "socket";
  EXPECT_EQ(connect_seqpacket(path).error().code, Errc::NotFound);
  {
    auto listener = listen_seqpacket(path);
    ASSERT_TRUE(listener);
    struct stat status{};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777u, 0600u);
    auto client = connect_seqpacket(path);
    ASSERT_TRUE(client);
    EXPECT_EQ(peer_credentials(client->get())->pid, ::getpid());
  }
  EXPECT_EQ(connect_seqpacket(path).error().code, Errc::Unavailable);
  EXPECT_TRUE(listen_seqpacket(path));  // replaces the stale file
}

TEST(Spawn, PassesArgumentsEnvironmentAndDescriptors) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]), writer(ends[1]);
  auto child = spawn({.program = "/bin/sh",
                      .arguments = {"-c", "echo $1 $NAME >&5; ls /proc/self/fd | wc -l >&5; exit 3", "sh", "argument"},
                      .environment = {"NAME=value", "PATH=/usr/bin:/bin"},
                      .fds = {{writer.get(), 5}}});
  ASSERT_TRUE(child);
  writer.reset();
  const auto status = child->wait();
  ASSERT_TRUE(status);
  EXPECT_EQ(status->code, 3);
  EXPECT_EQ(status->text(), "exit code 3");
  char text[256];
  const ssize_t n = ::read(reader.get(), text, sizeof text);
  ASSERT_GT(n, 0);
  // 0, 1, 2, 5 and the folder that ls itself reads.
  EXPECT_EQ(std::string(text, static_cast<std::size_t>(n)), "argument value\n5\n");
}

TEST(Spawn, GivesAChildAProcessGroupOfItsOwn) {
  auto own = spawn({.program = "/bin/sleep", .arguments = {"100"}, .group = ProcessGroup::Own});
  auto shared = spawn({.program = "/bin/sleep", .arguments = {"100"}});
  ASSERT_TRUE(own && shared);
  EXPECT_EQ(::getpgid(own->pid()), own->pid());
  EXPECT_EQ(::getpgid(shared->pid()), ::getpgid(0));
  for (auto* child : {&*own, &*shared}) {
    EXPECT_TRUE(child->signal(SIGKILL));
    EXPECT_TRUE(child->wait());
  }
}

TEST(Spawn, KillsByPidfdAndReportsTheSignal) {
  auto child = spawn({.program = "/bin/sleep", .arguments = {"100"}});
  ASSERT_TRUE(child);
  EXPECT_FALSE(child->try_wait().value());
  EXPECT_TRUE(child->signal(SIGKILL));
  EXPECT_EQ(child->wait()->signal, SIGKILL);
  EXPECT_EQ(child->signal(SIGKILL).error().code, Errc::NotFound);
}

TEST(Spawn, NamesAMissingProgram) {
  const auto child = spawn({.program = "/no/such/program"});
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code, Errc::NotFound);
  EXPECT_THAT(child.error().what, ::testing::HasSubstr("/no/such/program"));
}

}  // namespace
}  // namespace skerry::os
