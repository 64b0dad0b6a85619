// SPDX-License-Identifier: Apache-2.0
// What the node needs to run its pods without anybody's help, on its own disk: the pods bound to it, how far each of them is
// (addresses, keeper ids, restart counts), and the objects that they refer to. SQLite, one transaction a write, fsynced
// before write() returns; the agent acts only on what was written (docs/wire/checkpoint.md).
//
// Secrets are never on disk in clear: AES-256-GCM under the node's key (DIR/node.key, mode 0600), bound to their name.
// Blocking; one thread at a time (the agent's checkpoint pool), but for bytes().
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "kube/object.h"
#include "sql/database.h"

namespace skerry::agent {

// 32 bytes that stay on this node.
class NodeKey {
 public:
  // Reads the key file, or makes one. Corrupt: a file that is no key; Denied: readable by others.
  static Result<NodeKey> open(const std::filesystem::path&, Random&);
  // `name` is bound to the text: what was sealed under one name does not open under another.
  Result<std::string> seal(std::string_view name, std::string_view clear, Random&) const;
  Result<std::string> unseal(std::string_view name, std::string_view sealed) const;  // Corrupt: changed, or another key

 private:
  std::string bytes_;
};

namespace change {
struct PutPod { kube::ObjectPtr object; std::string state; };     // both at once, when the object is new or differs
struct PutPodState { std::string uid, state; };
struct RemovePod { std::string uid; };
struct PutObject { kube::ObjectPtr object; };                     // by kind, namespace, name; kind Secret is sealed
struct RemoveObject { std::string kind, namespace_, name; };
struct PutNumber { std::string name; std::int64_t value; };
struct PutIntent { std::uint64_t id; std::string json; };         // intents_core.h
struct RemoveIntent { std::uint64_t id; };
}  // namespace change
using Change = std::variant<change::PutPod, change::PutPodState, change::RemovePod, change::PutObject, change::RemoveObject, change::PutNumber,
                            change::PutIntent, change::RemoveIntent>;

class Checkpoint {
 public:
  static constexpr std::string_view kOlder = "older";  // a number: a copy is in its place, and nothing was written since
  static constexpr Duration kCopyPeriod = std::chrono::hours(1);  // between good copies, if something was written
  struct Pod {
    kube::ObjectPtr object;
    std::string state;
  };
  struct Loaded {
    std::vector<Pod> pods;
    std::vector<kube::ObjectPtr> objects;
    std::vector<std::pair<std::uint64_t, std::string>> intents;  // by id
    std::vector<std::string> lost;  // what could not be read, each with its reason: they come again from the API server
    bool older = false;             // of the last good copy, or of nothing: what was written since is not in it (until kOlder is put to 0)
    std::int64_t number(std::string_view name, std::int64_t otherwise = 0) const;
    std::vector<std::pair<std::string, std::int64_t>> numbers;
  };

  // Opens or makes FOLDER/agent.db and FOLDER/node.key. A damaged database is moved aside and the node starts from its last good copy
  // (copy()), or, without one, from nothing (`restored` and `emptied` then say so): everything in it can be had from the API server
  // and the keeper again.
  static Result<Checkpoint> open(const std::filesystem::path& folder, Random&, sql::Database::Options = {});
  Result<Loaded> load();
  // All of it or nothing; durable when it returns. Corrupt: the database is damaged, now or before: nothing is written until remake().
  Result<> write(const std::vector<Change>&);
  // FOLDER/agent.db.good becomes what was written so far. Takes as long as writing all of it. Corrupt: as for write(), and the former copy stays.
  Result<> copy();
  // The database made anew from `all` that it shall have, while the agent that holds it lives; the damaged one is moved aside. The good copy is made
  // of it first: who dies meanwhile starts from that. On failure nothing is written still, and it may be tried again. Nothing happens if there is no damage.
  Result<> remake(const std::vector<Change>& all);
  const std::string& restored() const { return restored_; }  // empty, or why the database is not the one that was written last
  bool emptied() const { return emptied_; }                  // restored, and there was no good copy
  // What it takes on the disk. From any thread: it asks the file system, and nothing of the database.
  std::uint64_t bytes() const;

 private:
  Checkpoint(NodeKey key, Random& random, std::string path, sql::Database::Options options)
      : options_(std::move(options)), key_(std::move(key)), random_(&random), path_(std::move(path)) {}
  Result<> use(sql::Database);
  Result<> apply(sql::Database&, const Change&);
  Result<> apply_all(sql::Database&, const std::vector<Change>&);
  Error noticed(Error);
  sql::Database::Options options_;
  std::optional<sql::Database> database_;  // nothing: remake() has failed in its middle
  NodeKey key_;
  Random* random_;
  std::string path_, restored_;
  std::string damage_;  // why write() takes nothing, or empty
  bool emptied_ = false;
};

}  // namespace skerry::agent
