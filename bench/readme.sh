#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes the README's table of figures from what `scripts/bench --json` printed.
#
#   bench/readme.sh [--check] [FILE.jsonl]      FILE: the newest of bench/results by default
#
# --check changes nothing and exits with 1 if the README says something else than the file. A file that lacks a figure is refused.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
cd "$SKERRY_TOP"

check=0
[ "${1:-}" != --check ] || { check=1 && shift; }
file=${1:-$(printf '%s\n' bench/results/*.jsonl | sort | tail -n 1)}
[ -r "$file" ] || die "there is no $file; make one with: scripts/bench --json > bench/results/$(date +%F).jsonl"
for figure in $(scripts/bench --list); do
  jq -e -s --arg figure "$figure" 'any(.[]; .name == $figure or (.name | startswith($figure + "-")))' "$file" >/dev/null ||
    die "$file has no figure of $figure: it is not of a whole run; make one with: scripts/bench --json > bench/results/$(date +%F).jsonl"
done
work=$(mktemp)
trap 'rm -f "$work"' EXIT
{
  sed '/^<!-- figures -->$/q' README.md
  cat bench/row-head.md
  jq -r -f bench/row.jq "$file" || die "$file is not what scripts/bench --json prints."
  sed -n '/^<!-- end of figures -->$/,$p' README.md
} >"$work"
grep -q '^<!-- figures -->$' "$work" && grep -q '^<!-- end of figures -->$' "$work" ||
  die "README.md has no lines '<!-- figures -->' and '<!-- end of figures -->' around its table."
if [ $check = 1 ]; then
  diff -u README.md "$work" >&2 || die "the README's figures are not those of $file; run bench/readme.sh."
  exit 0
fi
cat "$work" >README.md
say "README.md: $(grep -c . "$file") figures of $file"
