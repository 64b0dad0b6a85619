#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The house's own checks, which no compiler makes (HOUSE-STYLE §1, §2, §5): layers, who may include what, length, SPDX,
# TODO with an issue, nothing of the machine it was written on. Prints `path:line: what is wrong and what to do`, exit 1.
#
#   tools/tidy/check.sh [ROOT]        ROOT: a checkout, by default the one of this script
set -u
LC_ALL=C
export LC_ALL
root=${1:-$(dirname "$0")/../..}
cd "$root" || exit 2

# Tracked files and those not yet added, but nothing that is ignored; without git, everything.
files() {
  { git ls-files --cached --others --exclude-standard 2>/dev/null || find . -type f -not -path './build/*' | sed 's#^\./##'; } |
    while IFS= read -r file; do [ -f "$file" ] && printf '%s\n' "$file"; done
}
all=$(mktemp) && found=$(mktemp) || exit 2
trap 'rm -f "$all" "$found"' EXIT
files | sort -u >"$all"
sources=$(grep -E '^(src|bench|fuzz|sim|tests)/.*\.(cc|h)$' "$all")

# --- modules and their layers, as CMake has them ---
layers=$(grep -E '^src/[a-z]+/CMakeLists\.txt$' "$all" | xargs -r sed -nE 's/^ *skerry_module\( *([a-z]+) +LAYER +([0-9]+).*/\1=\2/p' | tr '\n' ' ')

# --- every C++ source: without comments and without the text of strings ---
# shellcheck disable=SC2086
[ -z "$sources" ] || awk -v layers="$layers" '
  BEGIN {
    count = split(layers, pairs, " ")
    for (i = 1; i <= count; i++) { split(pairs[i], pair, "="); layer[pair[1]] = pair[2] }
  }
  function complain(text) { printf "%s:%d: %s\n", FILENAME, FNR, text }
  function only_in(pattern, places, text) { if (code ~ pattern && FILENAME !~ places) complain(text) }
  FNR == 1 {
    in_comment = 0
    split(FILENAME, part, "/")
    module = part[1] == "src" ? part[2] : ""
    is_test = FILENAME ~ /_test\.cc$|^tests\/|\/(testing|fake)_/
    is_header = FILENAME ~ /\.h$/
    long = FILENAME ~ /^src\// ? 800 : 1200
    if ($0 !~ /SPDX-License-Identifier: Apache-2\.0/) complain("the first line must be: // SPDX-License-Identifier: Apache-2.0")
  }
  FNR == long + 1 { complain("is longer than " long " lines: split it") }
  {
    include = ""
    if ($0 ~ /^ *# *include/) {
      include = $0; sub(/^[^<"]*[<"]/, "", include); sub(/[>"].*/, "", include)
    }
    code = $0
    gsub(/"([^"\\]|\\.)*"/, "\"\"", code)
    if (in_comment) { if (sub(/^.*\*\//, "", code)) in_comment = 0; else code = "" }
    gsub(/\/\*([^*]|\*[^\/])*\*\//, "", code)
    if (code ~ /\/\*/) { sub(/\/\*.*/, "", code); in_comment = 1 }
    sub(/\/\/.*/, "", code)
  }
  include != "" && module != "" && $0 ~ /"/ {
    split(include, path, "/")
    target = path[1]
    if (include ~ /\// && (target in layer) && (module in layer) && target != module && layer[target] + 0 >= layer[module] + 0)
      complain(module " (layer " layer[module] ") must not include " include " (layer " layer[target] "): what both need goes down")
  }
  include == "sqlite3.h" && FILENAME !~ /^src\/sql\// { complain("sqlite3.h belongs to src/sql; use sql/database.h") }
  include ~ /^boost\/beast/ && FILENAME !~ /^src\/http\// { complain("beast belongs to src/http; use http/message.h, server.h, client.h") }
  include ~ /^wasmedge/ && FILENAME !~ /^src\/(wasm|sandbox)\// { complain("wasmedge belongs to src/wasm and src/sandbox") }
  include ~ /^ares/ && FILENAME !~ /^src\/net\/dns_message\.cc$/ { complain("c-ares stands behind net/dns_message.h") }
  include ~ /^yyjson/ && FILENAME !~ /^src\/kube\// && FILENAME ~ /^src\// { complain("yyjson stands behind kube/json.h") }
  include ~ /^grpc/ && FILENAME !~ /^src\/cri\// { complain("gRPC belongs to src/cri") }
  FILENAME ~ /^src\// && !is_test {
    only_in("(^|[^a-zA-Z0-9_.>])(v?fork|exec[lv]p?e?|execveat|fexecve|clone3?|posix_spawnp?) *\\(", "^src/(os|sandbox)/|^src/wasm/compile_main\\.cc$", "fork and exec belong to src/os and src/sandbox; use os/spawn.h")
    only_in("std::j?thread[^_a-z]|pthread_create|std::async", "^src/rt/|^src/rt$", "threads belong to src/rt; use rt::BlockingPool")
    only_in("co_spawn|io_context([^:_a-zA-Z]|$)|asio::detached", "^src/rt/", "io_context and co_spawn belong to src/rt; use rt::Loop and rt::TaskGroup")
    only_in("(^|[^a-zA-Z_])(secure_)?getenv *\\(", "^src/cli/", "the environment is read in src/cli alone; pass an option")
  }
  is_header && code ~ /^ *using namespace/ && code !~ /literals;/ { complain("a header must not say using namespace") }
' $sources >>"$found"

for header in $(printf '%s\n' "$sources" | grep '\.h$'); do
  grep -q '^#pragma once' "$header" || echo "$header:1: a header needs #pragma once" >>"$found"
done

# --- every text of ours ---
texts=$(grep -vE '(^|/)(LICENSE|corpus/|testdata/|\.git/)|\.(png|wasm|lock)$|^tools/tidy/' "$all")
# shellcheck disable=SC2086
[ -z "$texts" ] || {
  grep -nIE '(TODO|FIXME|XXX)' $texts /dev/null | grep -vE 'TODO\(#[0-9]+\)' |
    grep -E '(//|#|/\*|<!--|--)[^"]*(TODO|FIXME|XXX)([^A-Za-z0-9_]|$)' |
    sed -E 's/^([^:]*:[0-9]+):.*/\1: a TODO names its issue: TODO(#12)/' >>"$found"
  grep -nIE '(^|[^a-zA-Z])not implemente[d] yet' $texts /dev/null |
    sed -E 's/^([^:]*:[0-9]+):.*/\1: no stubs: refuse with a reason, or build it/' >>"$found"
  # The hosts that this machine takes its packages from, and the folder that this checkout lies in.
  hosts=$({ grep -rhoE '(https?|ftp)://[^/ ]+' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null; } |
    sed -nE 's#^[a-z]+://([^/:@]*@)?([^/:]+).*#\2#p' | sort -u | sed 's/\./\\./g' | tr '\n' '|' | sed 's/|$//')
  [ -z "$hosts" ] || grep -nIE "(^|[^a-zA-Z0-9.-])($hosts)([^a-zA-Z0-9-]|$)" $texts /dev/null |
    sed -E 's/^([^:]*:[0-9]+):.*/\1: names a host of the machine that it was written on/' >>"$found"
  place=$(pwd -P)
  case $place in
    / | /root | /home/* | /tmp/*) ;;
    *) grep -nIF "$place/" $texts /dev/null | sed -E 's/^([^:]*:[0-9]+):.*/\1: names the folder of one checkout/' >>"$found" ;;
  esac
}
for script in $(grep -E '^(scripts|tools|tests|bench|\.ci)/' "$all"); do
  head -n 1 "$script" | grep -q '^#!' || continue
  [ -x "$script" ] || echo "$script:1: starts with #! but may not be executed: chmod +x" >>"$found"
done

[ -s "$found" ] || exit 0
sort -u "$found"
exit 1
