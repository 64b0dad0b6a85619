// SPDX-License-Identifier: Apache-2.0
// Bearer tokens: random, shown once, kept as SHA-256 only.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace skerry::pki {

// 256 random bits from the kernel, in hexadecimal.
std::string make_token();
std::string sha256_hex(std::string_view bytes);

// Who a token stands for. A value; its text form is stored by whoever owns it (one line a token, no token in it).
class TokenTable {
 public:
  struct Identity {
    std::string user{};
    std::vector<std::string> groups{};
    friend bool operator==(const Identity&, const Identity&) = default;
  };
  static constexpr std::size_t kEntriesMax = 10'000;

  Result<> add(std::string_view token, Identity);  // Exhausted: full; Invalid: shorter than 16 bytes, or bad names
  bool remove_user(std::string_view user);         // false: had none
  std::optional<Identity> find(std::string_view token) const;
  std::size_t size() const { return entries_.size(); }

  // "<sha256 hex> <user> <group>,<group>\n" for each. Corrupt: names the line.
  std::string to_text() const;
  static Result<TokenTable> from_text(std::string_view);

 private:
  std::map<std::string, Identity, std::less<>> entries_;  // by hash
};

}  // namespace skerry::pki
