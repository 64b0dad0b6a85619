// SPDX-License-Identifier: Apache-2.0
#include "kube/packer.h"

#include <lz4.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

namespace skerry::kube {
namespace {

// Nothing, unless it shrinks to less than half: else it serves better as a base itself.
std::optional<std::string_view> compress(std::string_view json, std::string_view dictionary, std::array<char, Packer::kBytesMax / 2>& out) {
  LZ4_stream_t stream;
  LZ4_initStream(&stream, sizeof stream);
  LZ4_loadDict(&stream, dictionary.data(), static_cast<int>(dictionary.size()));
  const auto room = std::min(out.size(), json.size() / 2);
  const int made = LZ4_compress_fast_continue(&stream, json.data(), out.data(), static_cast<int>(json.size()), static_cast<int>(room), 1);
  if (made <= 0) return std::nullopt;
  return std::string_view(out.data(), static_cast<std::size_t>(made));
}

}  // namespace

std::vector<const Packer::Base*> Packer::candidates(const Traits& traits) const {
  std::vector<const Base*> out;
  for (const bool equal : {true, false}) {
    for (const Base& base : bases_) {
      if (out.size() == kTriesMax) return out;
      if ((base.traits.get() == &traits) == equal && base.traits->kind == traits.kind) out.push_back(&base);
    }
  }
  return out;
}

std::shared_ptr<const Traits> Packer::share(const std::shared_ptr<const Traits>& traits) {
  const auto known = std::ranges::find_if(traits_, [&](const auto& one) { return *one == *traits; });
  if (known != traits_.end()) return *known;
  traits_.push_front(traits);
  if (traits_.size() > kBasesMax) traits_.pop_back();
  return traits;
}

ObjectPtr Packer::pack(const ObjectPtr& object, const ObjectPtr& former) {
  if (!object || object->packed_ || object->json_size_ < kBytesMin || object->json_size_ > kBytesMax) return object;
  const auto identity = former && *former->identity_ == *object->identity_ ? former->identity_ : object->identity_;
  const auto traits = share(object->traits_);
  const auto make = [&](const Text& text, std::string_view packed) {
    return std::make_shared<const Object>(Object::Key{}, identity, traits, object->revision(), object->deleting(), object->json_size_, text, packed);
  };
  std::array<char, kBytesMax / 2> room;
  std::string best;
  const Base* base = nullptr;
  for (const Base* candidate : candidates(*traits)) {
    // Against one that looks less alike only if it is as good as that: else the first of its look would spoil it for its siblings.
    const std::size_t enough = object->json_size_ / (candidate->traits == traits ? 3 : 8);
    const auto packed = compress(*object->text_, *candidate->text, room);
    if (!packed || packed->size() > enough || (base != nullptr && packed->size() >= best.size())) continue;
    base = candidate;
    best = *packed;
    if (best.size() < object->json_size_ / 8) break;
  }
  if (base != nullptr) return make(base->text, best);
  bases_.push_front({traits, object->text_});
  if (bases_.size() > kBasesMax) bases_.pop_back();
  return identity == object->identity_ && traits == object->traits_ ? object : make(object->text_, {});
}

}  // namespace skerry::kube
