# SPDX-License-Identifier: Apache-2.0
# For the end-to-end tests: the scripts' own functions and a few for expectations. Source it.
# shellcheck shell=bash
# shellcheck source-path=SCRIPTDIR source=../../scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
# shellcheck source-path=SCRIPTDIR source=../../scripts/cluster.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/cluster.sh"

E2E_CASE="(before the first case)"
test_case() {
  E2E_CASE=$1
  say "-- $1"
}
fail() {
  say "FAILED in '$E2E_CASE', line ${BASH_LINENO[${2:-0}]}: $1"
  [ ! -s "${CLUSTER_LOG:-}" ] || { say "the log's last lines:" && tail -n 60 "$CLUSTER_LOG" >&2; }
  exit 1
}
expect() { [ "$1" = "$2" ] || fail "expected '$1', got '$2'" 1; }
expect_match() { grep -qE -- "$1" "$2" || fail "nothing in $2 matches '$1'; it holds: $(head -c 600 "$2")" 1; }
expect_text() { grep -qE -- "$1" <<<"$2" || fail "nothing matches '$1' in: $(head -c 600 <<<"$2")" 1; }
passed() { say "passed: $(basename "$0" .sh)"; }
