// SPDX-License-Identifier: Apache-2.0
#include "cli/layout.h"

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

}  // namespace skerry::cli
