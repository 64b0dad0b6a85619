// SPDX-License-Identifier: Apache-2.0
// `skerry image pull|push|inspect`: between this machine's images and the registries.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <format>
#include <functional>

#include "base/log.h"
#include "base/text.h"
#include "cli/cmd.h"
#include "cli/image_users.h"
#include "cli/layout.h"
#include "cli/registries_file.h"
#include "kube/json.h"
#include "oci/image_store.h"
#include "oci/puller.h"
#include "os/file.h"
#include "rt/loop.h"
#include "wasm/inspect.h"
#include "wasm/native_build.h"

namespace skerry::cli {
namespace {

constexpr std::size_t kAuthFileBytesMax = 1 << 20;

// One line that is overwritten on a terminal; into a file, a line every tenth.
class ProgressLine {
 public:
  explicit ProgressLine(std::string what) : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1) {}
  void show(const oci::answer::Progress& p) {
    const auto tenth = p.of == 0 ? 0 : p.bytes * 10 / p.of;
    if (!terminal_ && tenth == told_) return;
    told_ = tenth;
    const bool small = p.of < 1'000'000;
    const double unit = small ? 1e3 : 1e6;
    std::fprintf(stderr, "%s%s  %.1f of %.1f %s%s", terminal_ ? "\r" : "", what_.c_str(), static_cast<double>(p.bytes) / unit, static_cast<double>(p.of) / unit, small ? "kB" : "MB",
                 terminal_ ? "" : "\n");
    open_ = terminal_;
  }
  ~ProgressLine() {
    if (open_) std::fputs("\n", stderr);
  }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

 private:
  std::string what_;
  bool terminal_, open_ = false;
  std::uint64_t told_ = ~0ULL;
};

Result<oci::RegistryJob> job_for(const oci::Reference& reference, const std::filesystem::path& registries_file, const std::filesystem::path& auth_file) {
  TRY(const auto registries, read_registries(registries_file));
  std::vector<oci::Credential> credentials;
  if (!auth_file.empty()) {
    TRY(const auto text, os::read_small_file(auth_file, kAuthFileBytesMax));
    auto found = oci::credentials_for(text, reference);
    if (!found) return Fail({Errc::Invalid, std::format("{} is no file of `docker login` ({{\"auths\":{{…}}}})", auth_file.string())});
    credentials = std::move(*found);
  }
  return oci::RegistryJob{.reference = reference, .endpoints = registries.endpoints(reference, std::move(credentials))};
}

Result<oci::RegistryAnswer> run(oci::RegistryJob job, const std::string& what) {
  TRY(auto program, find_registry_program());
  ProgressLine line(what);
  return rt::Loop::run_one(oci::run_registry(std::move(program), std::move(job), [&](const oci::answer::Progress& p) { line.show(p); }));
}

// Native code is made now, so that no pod waits for it. What is there is looked at by whoever loads it.
Result<> make_native(const wasm::NativeBuild& build, const oci::Image& image, const std::function<void()>& on_refused) {
  const auto hash = wasm::parse_sha256(std::string_view(image.digest).substr(image.digest.find(':') + 1));
  if (!hash) return Fail({Errc::Internal, std::format("the image store names no digest: {}", image.digest)});
  const auto path = wasm::native_path(build, *hash);
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && std::filesystem::exists(path.string() + ".sha256", ignored)) return {};
  auto native = wasm::ensure_native(build, image.path, *hash);
  if (native) {
    ::close(native->fd);
    return {};
  }
  on_refused();
  return Fail(std::move(native).error().with(image.reference.text()));
}

Result<> pull(const ImagePullOptions& o) {
  const DataLayout layout{o.data_dir};
  TRY(const auto programs, find_programs());
  TRY(const auto reference, oci::Reference::parse(o.reference));
  TRY(auto job, job_for(reference, o.registries, o.auth_file));
  TRY_OK(make_data_folder(o.data_dir));
  TRY(auto store, oci::ImageStore::open(layout.images()));
  // Another command that pulls the same is waited for; the node pulls for itself.
  TRY(const auto folder, store.pull_folder("command " + reference.text()));
  TRY(const auto former, store.named(reference));
  const auto present = store.resolve(o.reference);
  if (former && former->sideloaded())
    return Fail({Errc::Conflict, std::format("{} was side-loaded, and no registry replaces it; remove it first: skerry image rm {}", reference.text(), reference.text())});
  job.folder = folder.path;
  if (present) job.have = present->manifest;
  TRY(const auto answer, run(std::move(job), "pulling " + reference.text()));
  oci::Image image;
  if (const auto* pulled = std::get_if<oci::answer::Pulled>(&answer)) {
    TRY(image, store.add_pulled(folder.path / pulled->file, reference, {.module = pulled->module, .manifest = pulled->manifest, .arguments = pulled->arguments, .env = pulled->env, .pinned = true},
                                wasm::inspect_image, SystemClock().now()));
  } else {
    if (!present) return Fail({Errc::Internal, "the registry client gave no image"});
    image = *present;
  }
  TRY_OK(make_native({.compiler = programs.compiler, .folder = layout.native()}, image, [&] {
    // Nothing can run it: its name means what it meant before.
    if (auto back = store.put_back(reference, former); !back) LOG_WARN("image not put back", {"reference", o.reference}, {"error", back.error()});
  }));
  if (!image.pinned || image.reference != reference) TRY_OK(store.pin(o.reference, true));  // somebody wants it here, whether or not a pod uses it yet
  std::printf("%s  %s  %s  %llu bytes%s\n", reference.text().c_str(), image.manifest.c_str(), image.kind.c_str(), static_cast<unsigned long long>(image.size),
              std::holds_alternative<oci::answer::Same>(answer) ? "  (was here already)" : "");
  TRY(const auto deleted, store.collect([&](const std::string& digest) { return is_loaded(layout, digest); }));
  for (const auto& digest : deleted) remove_native_code(layout, digest);
  return {};
}

Result<oci::Image> stored(const std::filesystem::path& data_dir, const std::string& reference) {
  const DataLayout layout{data_dir};
  if (!std::filesystem::exists(layout.images())) return Fail({Errc::NotFound, std::format("there are no images in {}; is --data-dir right?", layout.images().string())});
  TRY(const auto store, oci::ImageStore::open(layout.images()));
  TRY(auto image, store.resolve(reference));
  TRY_OK(oci::ImageStore::verify(image));
  return image;
}

Result<> push(const ImagePushOptions& o) {
  TRY(const auto image, stored(o.data_dir, o.reference));
  TRY(const auto to, oci::Reference::parse(o.to.empty() ? o.reference : o.to));
  TRY(auto job, job_for(to, o.registries, o.auth_file));
  job.task = oci::RegistryTask::Push;
  TRY(const auto module, os::open_file(image.path, O_RDONLY));
  job.module_fd = module.get();
  TRY(const auto answer, run(std::move(job), "pushing " + to.text()));
  const auto* pushed = std::get_if<oci::answer::Pushed>(&answer);
  if (pushed == nullptr) return Fail({Errc::Internal, "the registry client pushed nothing"});
  std::printf("%s  %s\n", to.text().c_str(), pushed->manifest.c_str());
  return {};
}

Result<> inspect(const ImageInspectOptions& o) {
  TRY(const auto image, stored(o.data_dir, o.reference));
  TRY(const auto bytes, os::read_small_file(image.path, oci::ImageStore::kModuleBytesMax));
  TRY(const auto module, wasm::inspect(bytes));
  const auto native = wasm::native_path({.compiler = {}, .folder = DataLayout{o.data_dir}.native()}, wasm::sha256(bytes));
  kube::JsonEdit edit;
  auto root = edit.root();
  root.set("reference", image.reference.text());
  root.set("digest", image.digest);
  if (!image.manifest.empty()) root.set("manifest", image.manifest);
  root.set("size", static_cast<std::int64_t>(image.size));
  root.set("kind", image.kind);
  root.set("source", image.source);
  root.set("added", to_rfc3339(image.added));
  if (image.used != Time{}) root.set("used", to_rfc3339(image.used));
  for (const auto& [name, words] : {std::pair{"arguments", &image.arguments}, {"env", &image.env}}) {
    auto list = root.array(name);
    for (const auto& word : *words) list.push(word);
  }
  auto imports = root.array("imports");
  for (const auto& i : module.imports) imports.push(std::format("{}.{}", i.module, i.name));
  auto exports = root.array("exports");
  for (const auto& e : module.exports) exports.push(e.name);
  root.set("nativeCode", std::filesystem::exists(native));
  std::printf("%s\n", edit.dump().c_str());
  return {};
}

int finish(const Result<>& result) { return result ? kExitOk : fail(result.error()); }

}  // namespace

int cmd_image_pull(const ImagePullOptions& o) { return finish(pull(o)); }
int cmd_image_push(const ImagePushOptions& o) { return finish(push(o)); }
int cmd_image_inspect(const ImageInspectOptions& o) { return finish(inspect(o)); }

}  // namespace skerry::cli
