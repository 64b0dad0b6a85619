// SPDX-License-Identifier: Apache-2.0
#include "cli/token_file.h"

#include <sys/stat.h>

#include <format>
#include <optional>
#include <string>

#include "base/text.h"
#include "os/file.h"

namespace skerry::cli {
namespace {

constexpr std::size_t kFileBytesMax = 1 << 20, kTokenBytesMin = 12;

// The values of one line; nothing: a quote is not closed, or something follows it.
std::optional<std::vector<std::string>> values_of(std::string_view line) {
  std::vector<std::string> out;
  for (;;) {
    std::string value;
    if (line.starts_with('"')) {
      line.remove_prefix(1);
      for (;;) {
        const auto end = line.find('"');
        if (end == std::string_view::npos) return std::nullopt;
        value += line.substr(0, end);
        line.remove_prefix(end + 1);
        if (!line.starts_with('"')) break;
        value += '"';  // "" is one quote
        line.remove_prefix(1);
      }
      if (!line.empty() && line[0] != ',') return std::nullopt;
    } else {
      value = line.substr(0, line.find(','));
      line.remove_prefix(value.size());
    }
    out.push_back(std::move(value));
    if (line.empty()) return out;
    line.remove_prefix(1);
  }
}

}  // namespace

Result<std::vector<apiserver::BearerToken>> parse_token_file(std::string_view text) {
  std::vector<apiserver::BearerToken> out;
  std::size_t number = 0;
  for (std::string_view line : split(text, '\n')) {
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const auto wrong = [&](std::string_view why) {
      return Fail({Errc::Invalid, std::format("line {}: {}; write it as TOKEN,USER,UID or TOKEN,USER,UID,\"GROUP,GROUP\"", number, why)});
    };
    const auto values = values_of(line);
    if (!values || values->size() < 3 || values->size() > 4) return wrong("not three or four values");
    if ((*values)[0].size() < kTokenBytesMin) return wrong(std::format("the token is shorter than {} characters and could be guessed", kTokenBytesMin));
    if ((*values)[1].empty()) return wrong("there is no user");
    apiserver::BearerToken token{.token = (*values)[0], .user = {.name = (*values)[1], .groups = {}}};
    for (const auto& other : out)
      if (other.token == token.token) return wrong("the token is in the file already");
    if (values->size() == 4)
      for (const std::string_view group : split((*values)[3], ','))
        if (!group.empty()) token.user.groups.emplace_back(group);
    out.push_back(std::move(token));
  }
  return out;
}

Result<std::vector<apiserver::BearerToken>> read_token_file(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && (info.st_mode & 077) != 0)
    return Fail({Errc::Denied, std::format("{} can be read by others (mode {:o}), and its tokens are passwords: chmod 600 it", path.string(), info.st_mode & 07777)});
  TRY(const auto text, os::read_small_file(path, kFileBytesMax));
  auto tokens = parse_token_file(text);
  if (!tokens) return Fail(std::move(tokens).error().with(path.string()));
  return tokens;
}

}  // namespace skerry::cli
