// SPDX-License-Identifier: Apache-2.0
#include "agent/image_manager.h"

#include <fcntl.h>
#include <sys/file.h>

#include <chrono>
#include <format>

#include "base/log.h"
#include "os/file.h"
#include "wasm/inspect.h"

namespace skerry::agent {
namespace {

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

// While pods use an image its native code carries a shared lock, which `skerry image rm` looks for. The keeper holds the same
// open file, so the lock outlives an agent that dies.
void mark_used(const os::UniqueFd& native, bool used) {
  if (native && ::flock(native.get(), (used ? LOCK_SH : LOCK_UN) | LOCK_NB) != 0) LOG_DEBUG("image not marked", {"errno", errno}, {"used", used});
}

}  // namespace

ImageManager::ImageManager(rt::Loop& loop, Options options, Send send)
    : loop_(loop), options_(std::move(options)), send_(std::move(send)), tasks_(loop), pool_({.name = "images", .threads = 1}) {
  std::error_code ignored;
  index_seen_ = std::filesystem::last_write_time(options_.image_folder / "index.json", ignored);
}

Result<ImageManager::Built> ImageManager::build(const oci::ImageStore& store, const wasm::NativeBuild& native, const std::string& reference, bool wagi) {
  const auto begin = std::chrono::steady_clock::now();
  Built out;
  TRY(out.image, store.resolve(reference));
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

void ImageManager::prepare(const std::string& reference, PullPolicy pull, bool wagi, Done done) {
  auto& waiters = waiting_[{reference, wagi}];
  waiters.push_back(std::move(done));
  if (waiters.size() == 1) tasks_.spawn("prepare image", prepare_one(reference, pull, wagi));
}

rt::Task<> ImageManager::prepare_one(std::string reference, PullPolicy pull, bool wagi) {
  auto outcome = co_await work(reference, pull, wagi);
  auto node = waiting_.extract({reference, wagi});
  if (node.empty() || !outcome) co_return Result<>{};
  for (const Done& done : node.mapped()) done(*outcome);
  co_return Result<>{};
}

rt::Task<ImageManager::Outcome> ImageManager::work(std::string reference, PullPolicy pull, bool wagi) {
  Outcome out;
  auto built = co_await pool_.run<Built>([folder = options_.image_folder, native = options_.build, reference, wagi]() -> Result<Built> {
    TRY(const auto store, oci::ImageStore::open(folder));
    auto made = build(store, native, reference, wagi);
    if (!made) return Fail(std::move(made).error());
    return made;
  });
  if (!built) {
    out.reason = reason_of(built.error(), pull);
    out.image = Fail(std::move(built).error());
    co_return out;
  }
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
  PreparedImage prepared{.image_id = std::format("{}/{}@{}", r.registry, r.repository, built->image.digest), .key = built->key, .kind = built->kind};
  PreparedImagePtr& last = found->second.prepared;
  if (!last || *last != prepared) last = std::make_shared<const PreparedImage>(std::move(prepared));
  out.image = last;
  out.event_text = std::format("Container image \"{}\" already present on machine; ready after {}", reference, to_human(built->took));
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
