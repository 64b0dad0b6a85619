// SPDX-License-Identifier: Apache-2.0
// From an image's reference to a template that the keeper holds: resolve on this node's disk, look at the bytes, compile in
// a process of its own (or take the cached native code, its hash verified), give it to the keeper, wait for its word.
// One at a time on a pool; what many pods ask for is done once. Owner: the agent, on its loop.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/pod_core.h"
#include "base/error.h"
#include "oci/image_store.h"
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
    Duration load_timeout = 60s;       // the keeper's template
    Duration unused_after = 60s;       // no pod uses it: the keeper drops it
  };
  struct Outcome {
    Result<PreparedImagePtr> image = Fail({Errc::Internal, "not asked"});
    std::string reason;      // of a failure, for the pod's status
    std::string event_text;  // of a success
  };
  using Done = std::function<void(const Outcome&)>;
  using Send = std::function<void(const sandbox::Command&, std::span<const int>)>;

  ImageManager(rt::Loop&, Options, Send);

  // `done` is called later, on the loop, once.
  void prepare(const std::string& reference, PullPolicy, bool wagi, Done done);
  // An image that a running keeper holds already (Dump): its native code is opened, to fill a later keeper. Blocking; once.
  void adopt(const std::string& key, const std::string& name, bool ready);
  // The keeper's words.
  void on_ready(const std::string& key);
  void on_failed(const std::string& key, const std::string& text);
  // A new keeper knows no image: puts again what was put.
  void refill();
  // Tells the manager which keys pods use now; others are dropped from the keeper after a while.
  void sweep(const std::function<bool(const std::string& key)>& used, Instant now);
  // True once after the list of images on the disk has changed.
  bool changed();
  std::vector<oci::Image> list() const;  // blocking; small

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
  static Result<Built> build(const oci::ImageStore&, const wasm::NativeBuild&, const std::string& reference, bool wagi);
  rt::Task<> prepare_one(std::string reference, PullPolicy pull, bool wagi);
  rt::Task<Outcome> work(std::string reference, PullPolicy pull, bool wagi);
  void put(Loaded&);

  rt::Loop& loop_;
  Options options_;
  Send send_;
  std::map<std::pair<std::string, bool>, std::vector<Done>> waiting_;  // reference and wagi
  std::map<std::string, Loaded> loaded_;                               // by key
  std::filesystem::file_time_type index_seen_{};
  rt::TaskGroup tasks_;
  rt::BlockingPool pool_;
};

}  // namespace skerry::agent
