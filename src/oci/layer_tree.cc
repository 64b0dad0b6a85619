// SPDX-License-Identifier: Apache-2.0
#include "oci/layer_tree.h"

#include <deque>
#include <format>
#include <vector>

#include "base/text.h"

namespace skerry::oci {
namespace {

constexpr std::string_view kWhiteout = ".wh.", kOpaque = ".wh..wh..opq";

std::string shown(std::string_view path) { return std::string(path.substr(0, 100)); }

// "a/b" of "./a//b/"; nothing: ".." or a NUL is in it.
std::optional<std::string> normal(std::string_view path) {
  std::string out;
  if (path.contains('\0')) return std::nullopt;
  for (const std::string_view part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") return std::nullopt;
    if (!out.empty()) out += '/';
    out += part;
  }
  return out;
}

}  // namespace

void LayerTree::begin_layer() {
  ++layers_;
  entries_ = 0;
}

// Walks the path part by part, following links within the image: an absolute one starts at the image's root, and ".." ends there.
// What does not exist is taken as it is written.
Result<std::string> LayerTree::resolve(std::string_view path, bool follow_last) const {
  std::deque<std::string> left;
  for (const std::string_view part : split(path, '/'))
    if (!part.empty() && part != ".") left.emplace_back(part);
  std::string at;
  std::size_t links = 0;
  while (!left.empty()) {
    const std::string part = std::move(left.front());
    left.pop_front();
    if (part == "..") {
      const auto slash = at.rfind('/');
      at.resize(slash == std::string::npos ? 0 : slash);
      continue;
    }
    const std::string next = at.empty() ? part : at + "/" + part;
    if (next.size() > kPathBytesMax) return Fail({Errc::Exhausted, "a path in the image is too long"});
    const auto node = nodes_.find(next);
    if (node == nodes_.end() || node->second.kind != Kind::Symlink || (left.empty() && !follow_last)) {
      at = next;
      continue;
    }
    if (++links > kLinksMax) return Fail({Errc::Invalid, std::format("the links in the image at {} lead in a circle", shown(path))});
    const std::string_view link = node->second.link;
    if (link.starts_with('/')) at.clear();
    const auto parts = split(link, '/');
    for (auto it = parts.rbegin(); it != parts.rend(); ++it)
      if (!it->empty() && *it != ".") left.emplace_front(*it);
    if (left.size() > kPathBytesMax) return Fail({Errc::Exhausted, "a link in the image is too long"});
  }
  return at;
}

void LayerTree::remove_below(const std::string& folder, std::size_t below_layer) {
  const std::string prefix = folder.empty() ? "" : folder + "/";
  for (auto it = nodes_.lower_bound(prefix); it != nodes_.end() && it->first.starts_with(prefix);)
    it = it->second.layer < below_layer ? nodes_.erase(it) : std::next(it);
}

Result<> LayerTree::add(const Entry& entry) {
  const std::size_t layer = layers_ - 1, index = entries_++;
  if (++all_entries_ > kEntriesMax) return Fail({Errc::Exhausted, std::format("the image has more than {} files", kEntriesMax)});
  if (entry.path.size() > kPathBytesMax || entry.link.size() > kPathBytesMax) return Fail({Errc::Exhausted, "a path in the image is too long"});
  const auto path = normal(entry.path);
  if (!path || entry.link.contains('\0'))
    return Fail({Errc::Invalid, std::format("the image has a file named \"{}\", which leads out of it; such an image is not used", shown(entry.path))});
  if (path->empty()) return {};  // the root itself
  const auto slash = path->rfind('/');
  const std::string_view name = std::string_view(*path).substr(slash == std::string::npos ? 0 : slash + 1);
  TRY(const std::string folder, resolve(slash == std::string::npos ? std::string_view() : std::string_view(*path).substr(0, slash), true));
  if (name == kOpaque) {
    remove_below(folder, layer);
    return {};
  }
  const std::string prefix = folder.empty() ? "" : folder + "/";
  if (name.starts_with(kWhiteout)) {
    const std::string gone = prefix + std::string(name.substr(kWhiteout.size()));
    const auto node = nodes_.find(gone);
    if (node != nodes_.end() && node->second.layer < layer) nodes_.erase(node);
    remove_below(gone, layer);
    return {};
  }
  const std::string key = prefix + std::string(name);
  Node made{.kind = entry.kind, .link = std::string(entry.link), .place = {.layer = layer, .entry = index, .size = entry.size}, .layer = layer};
  if (entry.kind == Kind::Hardlink) {
    TRY(const std::string target, resolve(entry.link, false));
    const auto node = nodes_.find(target);
    if (node == nodes_.end()) return Fail({Errc::Invalid, std::format("the image has a link \"{}\" to a file that it does not have", shown(entry.path))});
    made = node->second;
    made.layer = layer;
  }
  if (made.kind != Kind::Folder) remove_below(key, layer + 1);  // a file in a folder's place
  nodes_[key] = std::move(made);
  return {};
}

Result<LayerTree::Place> LayerTree::find(std::string_view path) const {
  TRY(const std::string at, resolve(path, true));
  const auto node = nodes_.find(at);
  if (node == nodes_.end()) return Fail({Errc::NotFound, std::format("the image has no file {}", shown(path))});
  if (node->second.kind != Kind::File) return Fail({Errc::Invalid, std::format("{} of the image is no regular file", shown(path))});
  return node->second.place;
}

}  // namespace skerry::oci
