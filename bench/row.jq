# SPDX-License-Identifier: Apache-2.0
# One figure (a line of scripts/bench --json) as a row of the README's table, values with three or four digits that mean something.
def short: if . == null then "" elif . >= 1000 then round elif . >= 100 then (. * 10 | round / 10) elif . >= 1 then (. * 100 | round / 100) else (. * 1000 | round / 1000) end;
"| \(.name) | \(.value | short) \(.unit) | \(if .peer then "\(.peer)\(if .peer_value == null then "" else ": \(.peer_value | short)" end)" else "" end) | \(.ratio // "") | \(.reach // "") | \(if .ok == null then "" elif .ok then "yes" else "**no**" end) |"
