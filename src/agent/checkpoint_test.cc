// SPDX-License-Identifier: Apache-2.0
#include "agent/checkpoint.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <format>
#include <fstream>
#include <sstream>

#include "sql/faulty_vfs.h"

namespace skerry::agent {
namespace {

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skerry-checkpoint-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  static kube::ObjectPtr object(std::string_view kind, std::string_view name, std::string_view more = "") {
    return kube::Object::from_json(std::format(R"({{"kind":"{}","metadata":{{"name":"{}","namespace":"ns","uid":"uid-{}","resourceVersion":"7"}}{}}})", kind, name, name, more))
        .value();
  }
  std::filesystem::path folder_;
  SeededRandom random_{1};
};

TEST_F(CheckpointTest, GivesBackWhatWasWrittenAfterAReopen) {
  {
    auto checkpoint = Checkpoint::open(folder_, random_).value();
    ASSERT_TRUE(checkpoint.write({change::PutPod{object("Pod", "a"), "one"}, change::PutPod{object("Pod", "b"), "two"},
                                  change::PutObject{object("ConfigMap", "c")}, change::PutNumber{"keeper-id", 42}}));
    ASSERT_TRUE(checkpoint.write({change::PutPodState{"uid-a", "one more"}, change::RemovePod{"uid-b"}}));
  }
  auto checkpoint = Checkpoint::open(folder_, random_).value();
  auto loaded = checkpoint.load().value();
  ASSERT_EQ(loaded.pods.size(), 1u);
  EXPECT_EQ(loaded.pods[0].object->name(), "a");
  EXPECT_EQ(loaded.pods[0].state, "one more");
  ASSERT_EQ(loaded.objects.size(), 1u);
  EXPECT_EQ(loaded.number("keeper-id"), 42);
  EXPECT_TRUE(loaded.lost.empty());
}

// Goal: an agent that dies before it has written anything does not hide that it started from an older copy. Method: a damaged file, with a
// copy and without; opened twice; then the write that says that it is known.
TEST_F(CheckpointTest, IsOlderAtEachStartUntilThatIsWritten) {
  for (const bool copied : {true, false}) {
    SCOPED_TRACE(copied);
    {
      auto checkpoint = Checkpoint::open(folder_, random_).value();
      ASSERT_TRUE(checkpoint.write({change::PutPod{object("Pod", "a"), "one"}}));
      EXPECT_FALSE(checkpoint.load().value().older);
      if (copied) {
        ASSERT_TRUE(checkpoint.copy());
      }
    }
    if (!copied) std::filesystem::remove(folder_ / "agent.db.good");
    std::ofstream(folder_ / "agent.db") << "this is not a database at all, it is only some text where the header of one should be";
    EXPECT_EQ(Checkpoint::open(folder_, random_).value().emptied(), !copied);
    auto again = Checkpoint::open(folder_, random_).value();
    EXPECT_EQ(again.restored(), "");
    const auto loaded = again.load().value();
    EXPECT_TRUE(loaded.older);
    EXPECT_EQ(loaded.pods.size(), copied ? 1u : 0u);
    ASSERT_TRUE(again.write({change::PutNumber{std::string(Checkpoint::kOlder), 0}}));
    EXPECT_FALSE(again.load().value().older);
  }
}

// Goal: a checkpoint that is damaged under a living agent takes nothing, until it was made anew from what the agent holds. A power cut in the
// middle of that loses nothing that was durable. Method: every page spoiled; the n-th operation of the remaking fails, for each n; then a start.
TEST_F(CheckpointTest, IsMadeAnewWhenItIsDamaged) {
  const auto text = [](const Checkpoint::Loaded& loaded) {
    std::string out;
    for (const auto& pod : loaded.pods) out += pod.object->name() + "=" + pod.state + " ";
    for (const auto& o : loaded.objects) out += o->kind() + "/" + o->name() + " ";
    return out + std::format("intents={} id={}", loaded.intents.size(), loaded.number("next-keeper-id"));
  };
  const std::vector<Change> all = {change::PutPod{object("Pod", "a"), "one"}, change::PutObject{object("Secret", "s")}, change::PutIntent{3, "three"}, change::PutNumber{"next-keeper-id", 9}};
  constexpr std::string_view kAll = "a=one Secret/s intents=1 id=9";
  for (std::uint64_t n = 1;; ++n) {
    SCOPED_TRACE(n);
    sql::FaultyVfs disk("remake-" + std::to_string(n));
    const sql::Database::Options on_it{.cache_kib = 1, .vfs = disk.name()};
    const std::string file = folder_ / "agent.db";
    bool done = false;
    {
      auto checkpoint = Checkpoint::open(folder_, random_, on_it).value();
      ASSERT_TRUE(checkpoint.write(all));
      for (int i = 0; i < 40; ++i) ASSERT_TRUE(checkpoint.write({change::PutObject{object("ConfigMap", std::format("filler-{}", i), std::format(R"(,"data":{{"x":"{}"}})", std::string(3000, 'x')))}}));
      ASSERT_TRUE(checkpoint.copy());
    }
    {
      auto checkpoint = Checkpoint::open(folder_, random_, on_it).value();  // the log is in the file now
      ASSERT_GT(disk.file_bytes(file), 100'000u);
      for (std::uint64_t page = 4096; page < disk.file_bytes(file); page += 4096)
        for (std::uint64_t i = 0; i < 16; ++i) disk.damage(file, page + i);
      const auto written = checkpoint.write({change::RemovePod{"uid-a"}, change::RemoveObject{"ConfigMap", "ns", "filler-7"}});
      ASSERT_FALSE(written);
      EXPECT_EQ(written.error().code, Errc::Corrupt);
      EXPECT_EQ(checkpoint.write({change::PutNumber{"x", 1}}).error().code, Errc::Corrupt) << "it is not tried again";
      EXPECT_EQ(checkpoint.copy().error().code, Errc::Corrupt);
      disk.fail_at(n, sql::FaultyVfs::Fault::Sticky);
      done = checkpoint.remake(all).has_value();
      if (done) {
        disk.heal();
        EXPECT_EQ(text(checkpoint.load().value()), kAll);
        EXPECT_TRUE(checkpoint.write({change::PutNumber{"x", 1}}));
      }
      disk.crash();
    }
    disk.restart();
    auto again = Checkpoint::open(folder_, random_, on_it).value();
    const auto loaded = again.load().value();
    EXPECT_FALSE(again.emptied()) << again.restored();
    EXPECT_THAT(text(loaded), ::testing::AllOf(::testing::HasSubstr("a=one"), ::testing::HasSubstr("Secret/s"), ::testing::HasSubstr("intents=1 id=9")));
    if (!done) continue;
    EXPECT_EQ(text(loaded), kAll);
    EXPECT_FALSE(loaded.older);
    EXPECT_GT(n, 5u);
    break;
  }
}

TEST_F(CheckpointTest, KeepsIntentsInTheirOrder) {
  {
    auto checkpoint = Checkpoint::open(folder_, random_).value();
    ASSERT_TRUE(checkpoint.write({change::PutIntent{7, "seven"}, change::PutIntent{3, "three"}, change::PutIntent{5, "five"}}));
    ASSERT_TRUE(checkpoint.write({change::PutIntent{3, "three again"}, change::RemoveIntent{5}}));
  }
  const auto loaded = Checkpoint::open(folder_, random_).value().load().value();
  EXPECT_THAT(loaded.intents, ::testing::ElementsAre(::testing::Pair(3, "three again"), ::testing::Pair(7, "seven")));
}

TEST_F(CheckpointTest, SecretsAreNotOnDiskInClearAndNeedTheNodesKey) {
  {
    auto checkpoint = Checkpoint::open(folder_, random_).value();
    ASSERT_TRUE(checkpoint.write({change::PutObject{object("Secret", "s", R"(,"data":{"password":"cG9tZWdyYW5hdGU="})")}}));
    auto loaded = checkpoint.load().value();
    ASSERT_EQ(loaded.objects.size(), 1u);
    EXPECT_THAT(*loaded.objects[0]->json(), ::testing::HasSubstr("cG9tZWdyYW5hdGU="));
  }
  for (const auto& file : std::filesystem::directory_iterator(folder_)) {
    std::ifstream in(file.path(), std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    EXPECT_THAT(text.str(), ::testing::Not(::testing::HasSubstr("cG9tZWdyYW5hdGU="))) << file.path();
  }
  std::filesystem::remove(folder_ / "node.key");
  auto loaded = Checkpoint::open(folder_, random_).value().load().value();
  EXPECT_TRUE(loaded.objects.empty());
  EXPECT_THAT(loaded.lost, ::testing::ElementsAre(::testing::HasSubstr("does not open with this node's key")));
}

TEST_F(CheckpointTest, RefusesAKeyThatOthersCanRead) {
  { auto checkpoint = Checkpoint::open(folder_, random_).value(); }
  ::chmod((folder_ / "node.key").c_str(), 0644);
  auto opened = Checkpoint::open(folder_, random_);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::Denied);
}

TEST_F(CheckpointTest, ASealedTextIsBoundToItsName) {
  auto key = NodeKey::open(folder_ / "k", random_).value();
  const auto sealed = key.seal("Secret/a/b", "clear", random_).value();
  EXPECT_EQ(key.unseal("Secret/a/b", sealed).value(), "clear");
  EXPECT_FALSE(key.unseal("Secret/a/c", sealed));
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    std::string bent = sealed;
    bent[i] = static_cast<char>(bent[i] ^ 1);
    EXPECT_FALSE(key.unseal("Secret/a/b", bent)) << i;
  }
}

// Goal: after any failing write there is the state before it or the state after it, never a mixture, and what write()
// acknowledged is there after a power loss. Method: fail the n-th disk operation for n = 1, 2, … until none is hit.
TEST_F(CheckpointTest, AFailingDiskLeavesOldOrNewStateAndLosesNothingAcknowledged) {
  for (std::uint64_t n = 1;; ++n) {
    ASSERT_LT(n, 500u);
    sql::FaultyVfs disk(std::format("checkpoint-fault-{}", n));
    const sql::Database::Options options{.vfs = disk.name()};
    bool acknowledged = false, hit = false;
    {
      auto checkpoint = Checkpoint::open(folder_, random_, options).value();
      ASSERT_TRUE(checkpoint.write({change::PutPod{object("Pod", "a"), "old"}, change::PutNumber{"keeper-id", 1}}));
      disk.fail_at(n, sql::FaultyVfs::Fault::Sticky);
      acknowledged = checkpoint.write({change::PutPodState{"uid-a", "new"}, change::PutNumber{"keeper-id", 2}}).has_value();
      hit = disk.has_failed();
      disk.crash(&random_);
    }
    disk.heal();
    disk.restart();
    auto loaded = Checkpoint::open(folder_, random_, options).value().load().value();
    ASSERT_EQ(loaded.pods.size(), 1u) << n;
    const bool is_new = loaded.pods[0].state == "new";
    EXPECT_EQ(is_new, loaded.number("keeper-id") == 2) << n;
    if (acknowledged) {
      EXPECT_TRUE(is_new) << n;
    }
    if (!hit) break;
  }
}

}  // namespace
}  // namespace skerry::agent
