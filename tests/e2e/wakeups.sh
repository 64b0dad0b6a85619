#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: a sandbox that lived and died leaves nothing behind, however many did.
# Method: a real keeper and template; 50 pods wake, answer and leave 2000 times (WAKEUPS=100000 is the long run); then the
# descriptors, children, zombies, pid namespaces and cgroups must be as many as before, and the memory as much.
#                                                                              tests/e2e/wakeups.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:?the build folder}" && pwd)
wakeups=${WAKEUPS:-2000}
native=$build/bin/static.so
[ -f "$native" ] || fail "there is no $native; build the target skerry-bench-guest"

test_case "$wakeups wake-ups leave nothing behind"
"$build/bin/skerry-bench-cold" --sandbox "$build/bin/skerry-sandbox" --native "$native" --sha256 "$(cat "$native.sha256")" --wakeups "$wakeups" >&2 ||
  fail "something is left, see the lines before and after"

passed
