// SPDX-License-Identifier: Apache-2.0
// The data folder belongs to one machine: DATA/node/machine remembers which, and an agent on another one does not start with its
// keys (node.key, DATA/node/pki). Against a copy of the whole folder that is used beside its machine; not against somebody who
// edits that file. What the API server does about copies: ADR 0035.
//
// A machine is known by /etc/machine-id and the firmware's uuid or serial number, "MACHINEID/SYSTEMUUID". Either may be missing: then
// the other tells. The first start remembers; a part that was missing and is there now is added. One that has neither is not
// bound, which is said at each start.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace skerry::agent {

struct MachineFacts;  // agent/node_status.h

struct MachineId {
  std::string machine_id{}, system_uuid{};
  bool empty() const { return machine_id.empty() && system_uuid.empty(); }
  std::string text() const { return machine_id + "/" + system_uuid; }  // as the Lease and the file have it
  friend bool operator==(const MachineId&, const MachineId&) = default;
};
MachineId machine_id_of(const MachineFacts&);

enum class OtherMachine : std::uint8_t { Refuse, Accept };

// The decision. `remembered`: the file's text, if there is one. What to remember now; Denied: another machine, with both and the
// remedy. Corrupt: the text is no machine's.
Result<MachineId> judge_machine(std::optional<std::string_view> remembered, const MachineId& now, OtherMachine, const std::filesystem::path& file);

// Reads FOLDER/machine, decides, and writes it durably if it says something else than before. Logs what is new or unusual. Blocking.
Result<> bind_machine(const std::filesystem::path& folder, const MachineId& now, OtherMachine);

}  // namespace skerry::agent
