// SPDX-License-Identifier: Apache-2.0
#include "agent/machine_binding.h"

#include <algorithm>
#include <format>

#include "agent/node_status.h"
#include "base/log.h"
#include "base/text.h"
#include "os/file.h"

namespace skerry::agent {
namespace {

constexpr std::size_t kFileBytesMax = 1024;

bool printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; });
}

}  // namespace

MachineId machine_id_of(const MachineFacts& facts) { return {facts.machine_id, facts.system_uuid}; }

Result<MachineId> judge_machine(std::optional<std::string_view> remembered, const MachineId& now, OtherMachine other, const std::filesystem::path& file) {
  if (!remembered || other == OtherMachine::Accept) return now;
  const auto parts = split(trim(*remembered), '/');
  if (parts.size() != 2 || !printable(parts[0]) || !printable(parts[1]))
    return Fail({Errc::Corrupt, std::format("{} does not name a machine (MACHINEID/SYSTEMUUID): start once with --accept-new-machine, if this is the machine that the data folder is of", file.string())});
  const MachineId before{std::string(parts[0]), std::string(parts[1])};
  const auto differs = [](const std::string& a, const std::string& b) { return !a.empty() && !b.empty() && a != b; };
  const bool shared = (!before.machine_id.empty() && before.machine_id == now.machine_id) || (!before.system_uuid.empty() && before.system_uuid == now.system_uuid);
  if (!before.empty() && (!shared || differs(before.machine_id, now.machine_id) || differs(before.system_uuid, now.system_uuid)))
    return Fail({Errc::Denied, std::format("this data folder belongs to machine {} (machine-id/system uuid, in {}), and this is machine {}: its keys are not used here. A second node needs a data "
                                           "folder and credentials of its own; if the first machine is gone for good, start once with --accept-new-machine",
                                           before.text(), file.string(), now.empty() ? "without any id" : now.text())});
  return MachineId{now.machine_id.empty() ? before.machine_id : now.machine_id, now.system_uuid.empty() ? before.system_uuid : now.system_uuid};
}

Result<> bind_machine(const std::filesystem::path& folder, const MachineId& now, OtherMachine other) {
  const auto file = folder / "machine";
  const auto text = os::read_small_file(file, kFileBytesMax);
  if (!text && text.error().code != Errc::NotFound) return Fail(text.error().with("who this data folder belongs to cannot be read"));
  TRY(const auto bound, judge_machine(text ? std::optional<std::string_view>(*text) : std::nullopt, now, other, file));
  if (now.empty())
    LOG_WARN("this machine has no id, so a copy of its data folder on another one without an id would not be noticed: run systemd-machine-id-setup", {"folder", folder.string()});
  const std::string wanted = bound.text() + "\n";
  if (text && *text == wanted) return {};
  TRY_OK(os::write_file_atomically(file, wanted, 0600));
  if (!text) LOG_INFO("the data folder belongs to this machine from now on", {"machine", bound.text()}, {"folder", folder.string()});
  else LOG_WARN("the data folder belongs to another machine id from now on", {"before", trim(*text)}, {"machine", bound.text()}, {"folder", folder.string()});
  return {};
}

}  // namespace skerry::agent
