// SPDX-License-Identifier: Apache-2.0
#include "agent/image_manager.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <chrono>
#include <format>
#include <set>

#include "base/log.h"
#include "os/file.h"
#include "wasm/inspect.h"

namespace skerry::agent {
namespace {

// Kubelet's words, and ours for what it does not know.
std::string_view reason_of(const Error& error, PullPolicy pull) {
  switch (error.code) {
    case Errc::NotFound: return pull == PullPolicy::Never ? "ErrImageNeverPull" : "ErrImagePull";
    case Errc::Unsupported: return "Unsupported";
    case Errc::Invalid: return "InvalidImage";
    case Errc::Exhausted: return "CompileLimit";
    case Errc::Corrupt: return "ImageCorrupt";
    default: return "ErrImagePull";
  }
}

// Nothing is compiled yet: what is exhausted is the disk, or what an image may be.
std::string_view reason_of_pull(const Error& error, PullPolicy pull) { return error.code == Errc::Exhausted ? "ErrImagePull" : reason_of(error, pull); }

// While pods use an image its native code carries a shared lock, which `skerry image rm` looks for. The keeper holds the same
// open file, so the lock outlives an agent that dies.
void mark_used(const os::UniqueFd& native, bool used) {
  if (native && ::flock(native.get(), (used ? LOCK_SH : LOCK_UN) | LOCK_NB) != 0) LOG_DEBUG("image not marked", {"errno", errno}, {"used", used});
}

}  // namespace

ImageManager::ImageManager(rt::Loop& loop, const Clock& clock, Random& random, Options options, Send send)
    : loop_(loop), clock_(clock), options_(std::move(options)), send_(std::move(send)), pulls_(options_.pulls, random), pull_ended_(loop), tasks_(loop),
      pool_({.name = "images", .threads = 1}) {
  std::error_code ignored;
  index_seen_ = std::filesystem::last_write_time(options_.image_folder / "index.json", ignored);
}

Result<ImageManager::Built> ImageManager::build(oci::ImageStore& store, const wasm::NativeBuild& native, const std::string& reference, bool wagi) {
  const auto begin = std::chrono::steady_clock::now();
  Built out;
  auto held = store.hold(reference);
  if (!held && held.error().code != Errc::NotFound) {
    LOG_WARN("image has no name of its own: it may go with the other one", {"image", reference}, {"reason", held.error()});  // a full disk
    held = store.resolve(reference);
  }
  TRY(out.image, std::move(held));
  TRY(const auto bytes, os::read_small_file(out.image.path, oci::ImageStore::kModuleBytesMax));
  const wasm::Sha256 module_hash = wasm::sha256(bytes);
  if ("sha256:" + wasm::to_hex(module_hash) != out.image.digest)
    return Fail({Errc::Corrupt, std::format("image {}: the file {} does not have the hash in its name: add the image again with `skerry image add`", reference, out.image.path.string())});
  TRY(const auto module, wasm::inspect(bytes));
  if (auto wanted = wasm::refuse_kind(module.kind, wagi ? wasm::Handler::Wagi : wasm::Handler::Detected); !wanted)
    return Fail(std::move(wanted).error().with("image " + reference));
  out.kind = module.kind == wasm::Kind::HttpHandler ? sandbox::GuestKind::HttpHandler : sandbox::GuestKind::Wagi;
  TRY(const auto file, wasm::ensure_native(native, out.image.path, module_hash));
  out.native = std::make_shared<os::UniqueFd>(file.fd);
  out.hash = file.hash;
  out.key = wasm::cache_key(module_hash, native.options);
  out.took = std::chrono::steady_clock::now() - begin;
  return out;
}

void ImageManager::write_metrics(metrics::Exposition& out) const {
  out.family("skerry_image_pulls_total", metrics::Type::Counter, "Times a registry was asked for an image, by what came of it");
  out.sample({{"result", "away"}}, counters_.away);
  out.sample({{"result", "failed"}}, counters_.failed);
  out.sample({{"result", "pulled"}}, counters_.pulled);
  out.sample({{"result", "unchanged"}}, counters_.unchanged);
  out.family("skerry_image_pull_bytes_total", metrics::Type::Counter, "Bytes of layers that came from registries");
  out.sample({}, counters_.bytes);
  out.family("skerry_image_pull_seconds", metrics::Type::Histogram, "From the registry asked to the image on the disk, of those that were pulled");
  out.sample({}, pull_took_);
}

void ImageManager::prepare(Wanted wanted, Callbacks callbacks) {
  // Who has other credentials asks for himself: what one may have another may not.
  std::string who = wanted.reference;
  for (const auto& config : wanted.docker_configs) who += " " + std::to_string(std::hash<std::string>{}(config));
  Key key{std::move(who), wanted.wagi, wanted.pull};
  auto& waiting = waiting_[key];
  if (waiting.pulling && callbacks.pulling) callbacks.pulling();
  waiting.callbacks.push_back(std::move(callbacks));
  if (waiting.callbacks.size() == 1) tasks_.spawn("prepare image", prepare_one(std::move(wanted), std::move(key)));
}

rt::Task<> ImageManager::prepare_one(Wanted wanted, Key key) {
  auto outcome = co_await work(std::move(wanted), key);
  auto node = waiting_.extract(key);
  if (node.empty() || !outcome) co_return Result<>{};
  for (const Callbacks& callbacks : node.mapped().callbacks) callbacks.done(*outcome);
  co_return Result<>{};
}

rt::Task<std::optional<oci::Image>> ImageManager::find(std::string reference) {
  co_return co_await pool_.run<std::optional<oci::Image>>([folder = options_.image_folder, reference]() -> Result<std::optional<oci::Image>> {
    TRY(const auto store, oci::ImageStore::open(folder));
    auto found = store.resolve(reference);
    if (found) return std::optional(std::move(*found));
    if (found.error().code == Errc::NotFound) return std::optional<oci::Image>();
    return Fail(std::move(found).error());
  });
}

rt::Task<std::string> ImageManager::pull(Wanted wanted, Key key, std::string have) {
  const Instant asked = clock_.instant();
  while (pulls_running_ >= options_.pulls_max) {
    pull_ended_.reset();
    CO_TRY_OK(co_await pull_ended_.wait());
  }
  struct Running {
    explicit Running(std::size_t& count, rt::Event& ended) : count_(count), ended_(ended) { ++count_; }
    ~Running() {
      --count_;
      ended_.set();
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    std::size_t& count_;
    rt::Event& ended_;
  } running(pulls_running_, pull_ended_);
  if (const auto waiting = waiting_.find(key); waiting != waiting_.end()) {
    waiting->second.pulling = true;
    for (const Callbacks& callbacks : waiting->second.callbacks)
      if (callbacks.pulling) callbacks.pulling();
  }
  CO_TRY(const auto reference, oci::Reference::parse(wanted.reference));
  std::vector<oci::Credential> secrets;
  for (const auto& config : wanted.docker_configs) {
    auto found = oci::credentials_for(config, reference);
    if (!found) LOG_WARN("pull secret left out", {"image", wanted.reference}, {"reason", found.error()});
    else secrets.insert(secrets.end(), found->begin(), found->end());
  }
  CO_TRY(const auto folder, co_await pool_.run<oci::PullFolder>([images = options_.image_folder, who = "node " + std::get<0>(key)]() -> Result<oci::PullFolder> {
    TRY(const auto store, oci::ImageStore::open(images));
    return store.pull_folder(who);
  }));
  const Instant begin = clock_.instant();
  oci::RegistryJob job{.task = oci::RegistryTask::Pull, .reference = reference, .endpoints = options_.registries.endpoints(reference, std::move(secrets)),
                       .folder = folder.path, .have = std::move(have)};
  CO_TRY(auto answer, co_await oci::run_registry(options_.registry, std::move(job), {}));
  const auto* pulled = std::get_if<oci::answer::Pulled>(&answer);
  if (pulled == nullptr) co_return std::string();  // the one that is here
  const oci::Provenance from{.module = pulled->module, .manifest = pulled->manifest, .arguments = pulled->arguments, .env = pulled->env};
  CO_TRY(const auto image, co_await pool_.run<oci::Image>([images = options_.image_folder, file = folder.path / pulled->file, reference, from, now = clock_.now()]() -> Result<oci::Image> {
    TRY(auto store, oci::ImageStore::open(images));
    return store.add_pulled(file, reference, from, wasm::inspect_image, now);
  }));
  LOG_INFO("image pulled", {"image", reference.text()}, {"manifest", image.manifest}, {"bytes", pulled->fetched}, {"took", clock_.instant() - begin});
  const Instant end = clock_.instant();
  counters_.bytes += pulled->fetched;
  pull_took_.observe(end - begin);
  co_return std::format("Successfully pulled image \"{}\" in {} ({} including waiting). Image size: {} bytes.", wanted.reference, to_human(end - begin), to_human(end - asked), image.size);
}

rt::Task<ImageManager::Outcome> ImageManager::work(Wanted wanted, Key key) {
  Outcome out;
  const std::string& reference = wanted.reference;
  const std::string& who = std::get<0>(key);
  const auto failed = [&](Error error, std::string reason) {
    out.reason = std::move(reason);
    out.image = Fail(std::move(error));
    return out;
  };
  if (const auto parsed = oci::Reference::parse(reference); !parsed) co_return failed(parsed.error(), "InvalidImageName");
  auto stored = co_await find(reference);
  if (!stored) co_return failed(stored.error(), std::string(reason_of(stored.error(), wanted.pull)));
  auto decision = pulls_.decide(who, wanted.pull, *stored ? &**stored : nullptr, clock_.instant());
  // Somebody with another policy or handler asks for it already: his answer is this one's too.
  while (decision.act == PullCore::Act::Ask && asked_now_.contains(who)) {
    pull_ended_.reset();
    CO_TRY_OK(co_await pull_ended_.wait());
    stored = co_await find(reference);
    if (!stored) co_return failed(stored.error(), std::string(reason_of(stored.error(), wanted.pull)));
    decision = pulls_.decide(who, wanted.pull, *stored ? &**stored : nullptr, clock_.instant());
  }
  const oci::Image* const there = *stored ? &**stored : nullptr;
  if (decision.act == PullCore::Act::Refuse) co_return failed({Errc::NotFound, decision.text}, decision.reason);
  const auto unreachable = [&](std::string_view why) {
    return std::format("The registry of image \"{}\" cannot be asked, so the image on this node is used: {}", reference, why);
  };
  if (!decision.text.empty()) out.warning = unreachable(decision.text);
  if (decision.act == PullCore::Act::Ask) {
    asked_now_.insert(who);
    auto pulled = co_await pull(wanted, key, there != nullptr ? there->manifest : std::string());
    asked_now_.erase(who);
    pull_ended_.set();  // those who wait run after what follows
    if (!pulled) ++(PullCore::away(pulled.error()) ? counters_.away : counters_.failed);
    if (pulled) {
      ++(pulled->empty() ? counters_.unchanged : counters_.pulled);
      pulls_.on_answer(who, clock_.instant());
      out.event_text = std::move(*pulled);
    } else {
      pulls_.on_failure(who, pulled.error(), clock_.instant());
      if (there == nullptr || !PullCore::away(pulled.error()))
        co_return failed(pulled.error().with(std::format("Failed to pull image \"{}\"", reference)), std::string(reason_of_pull(pulled.error(), wanted.pull)));
      LOG_WARN("registry cannot be asked: the image on the disk serves", {"image", reference}, {"reason", pulled.error()});
      out.warning = unreachable(pulled.error().what);
    }
  }
  auto built = co_await pool_.run<Built>([folder = options_.image_folder, native = options_.build, reference, wagi = wanted.wagi]() -> Result<Built> {
    TRY(auto store, oci::ImageStore::open(folder));
    auto made = build(store, native, reference, wagi);
    if (!made) return Fail(std::move(made).error());
    return made;
  });
  if (!built) co_return failed(built.error(), std::string(reason_of(built.error(), wanted.pull)));
  Loaded& loaded = loaded_[built->key];
  loaded.unused_since.reset();
  mark_used(loaded.native, true);
  if (loaded.key.empty() || loaded.state == Loaded::State::Failed) {
    loaded.key = built->key;
    loaded.name = reference.substr(0, sandbox::kImageNameMax);
    loaded.native = std::move(*built->native);
    mark_used(loaded.native, true);
    loaded.hash = built->hash;
    loaded.settled = std::make_unique<rt::Event>(loop_);
    put(loaded);
  }
  if (loaded.state == Loaded::State::Sent) {
    CO_TRY(const bool in_time, co_await loaded.settled->wait_for(options_.load_timeout));
    if (!in_time) {
      out.reason = "TemplateTimeout";
      out.image = Fail({Errc::Timeout, std::format("the keeper did not load image {} within {}", reference, to_human(options_.load_timeout))});
      co_return out;
    }
  }
  const auto found = loaded_.find(built->key);
  if (found == loaded_.end() || found->second.state != Loaded::State::Ready) {
    out.reason = "InvalidImage";
    out.image = Fail({Errc::Invalid, std::format("image {} cannot be loaded: {}", reference, found == loaded_.end() ? "dropped" : found->second.failure)});
    co_return out;
  }
  const oci::Reference& r = built->image.reference;
  PreparedImage prepared{.image_id = std::format("{}/{}@{}", r.registry, r.repository, built->image.identity()), .key = built->key, .kind = built->kind,
                         .defaults = {.env = built->image.env, .arguments = built->image.arguments}};
  PreparedImagePtr& last = found->second.prepared;
  if (!last || *last != prepared) last = std::make_shared<const PreparedImage>(std::move(prepared));
  out.image = last;
  if (out.event_text.empty()) out.event_text = std::format("Container image \"{}\" already present on machine; ready after {}", reference, to_human(built->took));
  co_return out;
}

void ImageManager::put(Loaded& image) {
  image.state = Loaded::State::Sent;
  image.settled->reset();
  const int fd = image.native.get();
  send_(sandbox::PutImage{.key = image.key, .name = image.name, .sha256 = image.hash}, std::span(&fd, 1));
}

void ImageManager::on_ready(const std::string& key) {
  const auto it = loaded_.find(key);
  if (it == loaded_.end() || !it->second.settled) return;
  it->second.state = Loaded::State::Ready;
  it->second.settled->set();
}
void ImageManager::on_failed(const std::string& key, const std::string& text) {
  const auto it = loaded_.find(key);
  if (it == loaded_.end() || !it->second.settled) return;
  LOG_WARN("image cannot be loaded", {"image", it->second.name}, {"reason", text});
  it->second.state = Loaded::State::Failed;
  it->second.failure = text;
  it->second.settled->set();
}

void ImageManager::refill() {
  for (auto& [key, image] : loaded_) {
    if (!image.native) continue;
    const bool was_ready = image.state == Loaded::State::Ready;
    put(image);
    if (was_ready) on_ready(key);  // it loaded before; the keeper holds its pods back until it has again
  }
}

void ImageManager::adopt(const std::string& key, const std::string& name, bool ready) {
  Loaded& image = loaded_[key];
  if (!image.key.empty()) return;
  image.key = key;
  image.name = name.substr(0, sandbox::kImageNameMax);
  image.settled = std::make_unique<rt::Event>(loop_);
  auto native = wasm::verify_native((options_.build.folder / (key + ".so")).string());
  if (native) {
    image.native = os::UniqueFd(native->fd);
    image.hash = native->hash;
    mark_used(image.native, true);
  } else {
    LOG_WARN("native code of a running image is not on the disk", {"image", name}, {"reason", native.error()});
  }
  if (ready) on_ready(key);
}

void ImageManager::sweep(const std::function<bool(const std::string&)>& used, Instant now) {
  for (auto it = loaded_.begin(); it != loaded_.end();) {
    Loaded& image = it->second;
    if (used(it->first) || image.state == Loaded::State::Sent) {
      if (image.unused_since) mark_used(image.native, true);
      image.unused_since.reset();
    } else if (!image.unused_since) {
      image.unused_since = now;
      mark_used(image.native, false);
    } else if (now - *image.unused_since >= options_.unused_after) {
      send_(sandbox::DropImage{.key = it->first}, {});
      it = loaded_.erase(it);
      continue;
    }
    ++it;
  }
}

void ImageManager::collect(std::vector<std::string> references, std::vector<std::string> keys) {
  tasks_.spawn("collect images", collect_now(std::move(references), std::move(keys)));
}

rt::Task<> ImageManager::collect_now(std::vector<std::string> references, std::vector<std::string> keys) {
  // Not while something is fetched or compiled: it has no name yet.
  if (!waiting_.empty()) co_return Result<>{};
  co_return co_await pool_.run<void>([options = options_, references = std::move(references), keys = std::move(keys), now = clock_.now()]() -> Result<> {
    TRY(auto store, oci::ImageStore::open(options.image_folder));
    std::set<std::string> digests;
    for (const auto& reference : references)
      if (const auto image = store.resolve(reference)) digests.insert(image->digest);
    const auto in_use = [&](const std::string& digest) {
      if (digests.contains(digest)) return true;
      const auto hash = wasm::parse_sha256(std::string_view(digest).substr(digest.find(':') + 1));
      return hash && std::ranges::find(keys, wasm::cache_key(*hash, options.build.options)) != keys.end();
    };
    const auto used_with = [&](std::uint64_t freed) {
      std::error_code error;
      const auto space = std::filesystem::space(options.image_folder, error);
      if (error || space.capacity == 0) return 0.0;
      return 1.0 - (static_cast<double>(space.available) + static_cast<double>(freed)) / static_cast<double>(space.capacity);
    };
    bool freeing = false;
    const auto too_full = [&](std::uint64_t freed) { return freeing = used_with(freed) > (freeing ? options.full_below : options.full_above); };
    const auto forget_native = [&](const std::string& digest) {
      if (const auto hash = wasm::parse_sha256(std::string_view(digest).substr(digest.find(':') + 1))) wasm::remove_native(options.build, *hash);
    };
    const auto collect = [&]() -> Result<> {
      TRY(const auto deleted, store.collect(in_use));
      std::ranges::for_each(deleted, forget_native);
      return {};
    };
    // What takes no room comes first: a full disk has none for a new index before something went. Half a download is worth less
    // than any image.
    store.remove_partial(used_with(0) > options.full_above ? Duration::zero() : options.partial_kept, now);
    TRY_OK(collect());
    TRY(const auto gone, store.evict(in_use, now, too_full, forget_native));
    for (const auto& reference : gone) LOG_WARN("image removed: the disk runs full and no pod uses it", {"image", reference.text()});
    if (!gone.empty()) TRY_OK(collect());
    return {};
  });
}

bool ImageManager::changed() {
  std::error_code error;
  const auto time = std::filesystem::last_write_time(options_.image_folder / "index.json", error);
  if (error || time == index_seen_) return false;
  index_seen_ = time;
  return true;
}

std::vector<oci::Image> ImageManager::list() const {
  auto store = oci::ImageStore::open(options_.image_folder);
  if (!store) return {};
  auto images = store->list();
  return images ? std::move(*images) : std::vector<oci::Image>{};
}

}  // namespace skerry::agent
