// SPDX-License-Identifier: Apache-2.0
// From an image's reference to a template that the keeper holds: find it on this node's disk or fetch it from its registry
// (pull_core.h decides which), look at the bytes, compile in a process of its own (or take the cached native code, its hash
// verified), give it to the keeper, wait for its word. Compiling is done one at a time on a pool; what many pods ask for is
// done once. Owner: the agent, on its loop.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "agent/pod_core.h"
#include "agent/pull_core.h"
#include "base/error.h"
#include "metrics/registry.h"
#include "oci/image_store.h"
#include "oci/puller.h"
#include "oci/registries.h"
#include "os/fd.h"
#include "rt/blocking_pool.h"
#include "rt/loop.h"
#include "rt/task_group.h"
#include "sandbox/protocol.h"
#include "wasm/native_build.h"

namespace skerry::agent {

class ImageManager {
 public:
  struct Options {
    std::filesystem::path image_folder;
    wasm::NativeBuild build;
    oci::RegistryProgram registry = {};
    oci::Registries registries = {};
    PullCore::Options pulls = {};
    std::size_t pulls_max = 3;         // at once
    double full_above = 0.85, full_below = 0.80;  // of the disk: images that no pod uses go from the one down to the other
    Duration partial_kept = std::chrono::hours(24 * 7);
    Duration load_timeout = 60s;       // the keeper's template
    Duration unused_after = 60s;       // no pod uses it: the keeper drops it
  };
  struct Wanted {
    std::string reference;
    PullPolicy pull = PullPolicy::IfNotPresent;
    bool wagi = false;
    std::vector<std::string> docker_configs;  // pull secrets; those that say nothing of the image are left out
  };
  struct Outcome {
    Result<PreparedImagePtr> image = Fail({Errc::Internal, "not asked"});
    std::string reason;      // of a failure, for the pod's status
    std::string event_text;  // of a success
    std::string warning;     // of a success: what did not go as it was wanted
  };
  struct Callbacks {
    std::function<void()> pulling;              // the registry is asked for it
    std::function<void(const Outcome&)> done;   // once
  };
  using Send = std::function<void(const sandbox::Command&, std::span<const int>)>;

  ImageManager(rt::Loop&, const Clock&, Random&, Options, Send);

  // The callbacks come later, on the loop.
  void prepare(Wanted, Callbacks);
  // The line is back: what could not be had is asked for again.
  void on_line_back() { pulls_.try_again(); }
  // An image that a running keeper holds already (Dump): its native code is opened, to fill a later keeper. Blocking; once.
  void adopt(const std::string& key, const std::string& name, bool ready);
  // The keeper's words.
  void on_ready(const std::string& key);
  void on_failed(const std::string& key, const std::string& text);
  // A new keeper knows no image: puts again what was put.
  void refill();
  // Tells the manager which keys pods use now; others are dropped from the keeper after a while.
  void sweep(const std::function<bool(const std::string& key)>& used, Instant now);
  // Frees what no pod uses (blobs without a name, their native code, downloads that nobody went on with), and on a disk that runs
  // full registries' images too. `references`: what the node's pods name.
  void collect(std::vector<std::string> references, std::vector<std::string> keys);
  // True once after the list of images on the disk has changed.
  bool changed();
  std::vector<oci::Image> list() const;  // blocking; small

  void write_metrics(metrics::Exposition&) const;

  rt::Task<> stop() { return tasks_.stop(); }

 private:
  struct Loaded {  // an image whose native code is open
    std::string key, name;
    os::UniqueFd native;
    wasm::Sha256 hash{};
    enum class State : std::uint8_t { Sent, Ready, Failed } state = State::Sent;
    std::string failure;
    std::unique_ptr<rt::Event> settled;
    PreparedImagePtr prepared;  // the last answer
    std::optional<Instant> unused_since;
  };
  struct Built {  // made on the pool
    oci::Image image;
    sandbox::GuestKind kind = sandbox::GuestKind::HttpHandler;
    std::string key;
    std::shared_ptr<os::UniqueFd> native;
    wasm::Sha256 hash{};
    Duration took{};
  };
  struct Waiting {
    std::vector<Callbacks> callbacks;
    bool pulling = false;
  };
  using Key = std::tuple<std::string, bool, PullPolicy>;  // who asks (reference and credentials), wagi, policy

  static Result<Built> build(oci::ImageStore&, const wasm::NativeBuild&, const std::string& reference, bool wagi);
  rt::Task<> prepare_one(Wanted wanted, Key key);
  rt::Task<Outcome> work(Wanted wanted, Key key);
  rt::Task<std::optional<oci::Image>> find(std::string reference);
  rt::Task<std::string> pull(Wanted wanted, Key key, std::string have);  // what to say of it
  rt::Task<> collect_now(std::vector<std::string> references, std::vector<std::string> keys);
  void put(Loaded&);

  rt::Loop& loop_;
  const Clock& clock_;
  Options options_;
  Send send_;
  PullCore pulls_;
  std::size_t pulls_running_ = 0;
  std::set<std::string> asked_now_;  // by pull secrets and reference: asked for at a registry
  struct Counters {
    std::uint64_t pulled = 0, unchanged = 0, away = 0, failed = 0, bytes = 0;
  } counters_;
  metrics::Histogram pull_took_{{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}};  // seconds: a thin line takes minutes
  rt::Event pull_ended_;
  std::map<Key, Waiting> waiting_;
  std::map<std::string, Loaded> loaded_;                               // by key
  std::filesystem::file_time_type index_seen_{};
  rt::TaskGroup tasks_;
  rt::BlockingPool pool_;
};

}  // namespace skerry::agent
