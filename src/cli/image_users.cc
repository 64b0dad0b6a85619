// SPDX-License-Identifier: Apache-2.0
#include "cli/image_users.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <charconv>
#include <format>

#include "agent/checkpoint.h"
#include "base/random.h"
#include "kube/json.h"
#include "os/file.h"
#include "wasm/native_build.h"

namespace skerry::cli {
namespace {

wasm::NativeBuild build_of(const DataLayout& layout) { return {.compiler = {}, .folder = layout.native()}; }
std::optional<wasm::Sha256> hash_of(const std::string& digest) { return wasm::parse_sha256(std::string_view(digest).substr(digest.find(':') + 1)); }

// "NAMESPACE/NAME" of a pod of the checkpoint that names the image, by its tag or its digest; empty: none does. A checkpoint
// that is in use belongs to a running agent, whose locks have told already.
Result<std::string> pod_of_checkpoint(const DataLayout& layout, const oci::Image& image) {
  if (!std::filesystem::exists(layout.node() / "agent.db")) return std::string();
  SystemRandom random;
  auto checkpoint = agent::Checkpoint::open(layout.node(), random, {.busy_timeout = Duration::zero()});
  if (!checkpoint) {
    if (checkpoint.error().code == Errc::Unavailable) return std::string();
    return Fail(checkpoint.error().with("cannot tell whether pods use the image (--force removes it all the same)"));
  }
  TRY(const auto loaded, checkpoint->load());
  for (const auto& pod : loaded.pods) {
    const kube::JsonDoc doc = pod.object->parse();
    const kube::Json root = doc.root();
    for (const kube::Json container : root["spec"]["containers"].items()) {
      const auto named = oci::Reference::parse(container["image"].str());
      if (named && image.answers(*named)) return std::format("{}/{}", root["metadata"]["namespace"].str(), root["metadata"]["name"].str());
    }
  }
  return std::string();
}

}  // namespace

bool is_loaded(const DataLayout& layout, const std::string& digest) {
  const auto hash = hash_of(digest);
  return hash && wasm::is_native_used(build_of(layout), *hash);
}

Result<> refuse_if_used(const DataLayout& layout, const oci::Image& image) {
  const auto refuse = [&](std::string_view who) {
    return Fail({Errc::Conflict, std::format("{} is used by {}; delete the pods first (kubectl get pods -A shows them), or give --force: they go on until their image must be loaded again",
                                             image.reference.text(), who)});
  };
  if (is_loaded(layout, image.digest)) return refuse("pods of this node");
  TRY(const auto pod, pod_of_checkpoint(layout, image));
  if (!pod.empty()) return refuse("the pod " + pod + " of this node, which does not run now");
  return {};
}

void remove_native_code(const DataLayout& layout, const std::string& digest) {
  if (const auto hash = hash_of(digest)) wasm::remove_native(build_of(layout), *hash);
}

}  // namespace skerry::cli
