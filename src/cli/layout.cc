// SPDX-License-Identifier: Apache-2.0
#include "cli/layout.h"

#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <format>

#include "os/file.h"

namespace skerry::cli {

Result<Programs> find_programs() {
  TRY(const auto folder, os::program_folder());
  Programs out{.sandbox = folder / "skerry-sandbox", .compiler = folder / "skerry-compile"};
  for (const auto& program : {out.sandbox, out.compiler})
    if (!std::filesystem::exists(program))
      return Fail({Errc::NotFound, std::format("{} is missing; skerry needs its two sibling programs beside itself: install the whole package", program.string())});
  return out;
}

Result<std::string> host_name() {
  std::array<char, 256> buffer{};
  if (::gethostname(buffer.data(), buffer.size() - 1) != 0) return Fail(errno_error(errno, "read the host name"));
  std::string name = buffer.data();
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool good = !name.empty() && std::isalnum(static_cast<unsigned char>(name.front())) && std::isalnum(static_cast<unsigned char>(name.back())) &&
                    name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-.") == std::string::npos;
  if (!good) return Fail({Errc::Invalid, "the host name \"" + name + "\" cannot name a node; give --node-name with letters, digits, '-' and '.'"});
  return name;
}

Result<> make_data_folder(const std::filesystem::path& path, unsigned mode) {
  auto made = os::make_folders(path, mode);
  if (made) return made;
  return Fail({made.error().code, std::format("cannot make the data folder: {}; run as root, or give --data-dir a folder that you may write", made.error().what)});
}

}  // namespace skerry::cli
