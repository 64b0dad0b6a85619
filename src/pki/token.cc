// SPDX-License-Identifier: Apache-2.0
#include "pki/token.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <format>

#include "base/check.h"
#include "base/text.h"

namespace skerry::pki {
namespace {

constexpr std::size_t kTokenBytesMin = 16;

// Names stand in a line of words: no spaces, no commas, no control bytes.
bool valid_word(std::string_view word) {
  return !word.empty() && word.size() <= 253 &&
         std::all_of(word.begin(), word.end(), [](char c) { return c > ' ' && c != ',' && c != 0x7f; });
}
bool valid_hash(std::string_view hash) {
  return hash.size() == 64 && std::all_of(hash.begin(), hash.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

std::string make_token() {
  std::array<unsigned char, 32> bytes{};
  CHECK(RAND_bytes(bytes.data(), bytes.size()) == 1);
  return to_hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

std::string sha256_hex(std::string_view bytes) {
  std::array<unsigned char, 32> digest{};
  unsigned size = 0;
  CHECK(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1 && size == digest.size());
  return to_hex({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

Result<> TokenTable::add(std::string_view token, Identity identity) {
  if (token.size() < kTokenBytesMin) return Fail({Errc::Invalid, std::format("a token must have at least {} bytes", kTokenBytesMin)});
  if (!valid_word(identity.user) || !std::all_of(identity.groups.begin(), identity.groups.end(), valid_word))
    return Fail({Errc::Invalid, "a token's user and groups must be words without spaces and commas"});
  if (entries_.size() >= kEntriesMax) return Fail({Errc::Exhausted, std::format("the token table holds {} tokens, which is the limit", kEntriesMax)});
  entries_.insert_or_assign(sha256_hex(token), std::move(identity));
  return {};
}

bool TokenTable::remove_user(std::string_view user) {
  return std::erase_if(entries_, [&](const auto& entry) { return entry.second.user == user; }) > 0;
}

std::optional<TokenTable::Identity> TokenTable::find(std::string_view token) const {
  // Looked up by hash: how long it takes says nothing about a stored token.
  const auto at = entries_.find(sha256_hex(token));
  if (at == entries_.end()) return std::nullopt;
  return at->second;
}

std::string TokenTable::to_text() const {
  std::string out;
  for (const auto& [hash, identity] : entries_) {
    out += hash + " " + identity.user + " ";
    for (std::size_t i = 0; i < identity.groups.size(); ++i) out += (i ? "," : "") + identity.groups[i];
    out += "\n";
  }
  return out;
}

Result<TokenTable> TokenTable::from_text(std::string_view text) {
  TokenTable out;
  std::size_t number = 0;
  for (std::string_view line : split(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    const auto words = split(line, ' ');
    const auto bad = [&] { return Fail({Errc::Corrupt, std::format("line {} of the token table is not '<sha256> <user> <groups>'", number)}); };
    if (words.size() != 3 || !valid_hash(words[0]) || !valid_word(words[1]) || out.entries_.size() >= kEntriesMax) return bad();
    Identity identity{.user = std::string(words[1])};
    if (!words[2].empty())
      for (const auto group : split(words[2], ',')) {
        if (!valid_word(group)) return bad();
        identity.groups.emplace_back(group);
      }
    out.entries_.insert_or_assign(std::string(words[0]), std::move(identity));
  }
  return out;
}

}  // namespace skerry::pki
