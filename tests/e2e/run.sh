#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: `skerry run FILE.wasm` serves one module without any cluster, and refuses with a reason what it cannot serve.
# Method: the example guests over curl; then files that are no such guest.       tests/e2e/run.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:?the build folder}" && pwd)
work=$(mktemp -d /tmp/skerry-run-XXXXXX)
server=
finish() {
  local rc=$?
  [ -z "$server" ] || stop_pid "$server" 10 || rc=1
  rm -rf "$work"
  exit $rc
}
trap finish EXIT

# Ends with 0 on SIGTERM, as a program does that was asked to stop.
stop_server() {
  [ -n "$server" ] || return 0
  local rc=0
  kill -TERM "$server"
  wait_until 10 process_gone "$server" || fail "skerry run did not end within 10 s of SIGTERM"
  wait "$server" || rc=$?
  server=
  [ $rc = 0 ] || fail "skerry run ended with $rc on SIGTERM: $(tail -n 3 "$work/log")"
}
# serve FILE [OPTION…] : starts it on a free port; sets server and base.
serve() {
  stop_server
  local port
  port=$(free_port)
  base=http://127.0.0.1:$port
  "$build/bin/skerry" run "$@" --port "$port" >"$work/log" 2>&1 &
  server=$!
  wait_until 20 curl -s -o /dev/null "$base/" || {
    cat "$work/log" >&2
    fail "skerry run $1 did not answer within 20 s"
  }
}
request() { curl -sS --max-time 10 -o "$work/body" -D "$work/head" -w '%{http_code}' "$@"; }

test_case "the edge service describes a batch and refuses a wrong one"
serve "$build/guest/edge-service.wasm"
expect 200 "$(request --data-binary @"$SKERRY_TOP/guest/examples/edge-service/readings.json" "$base/")"
expect "boiler" "$(jq -r '.sensors[0].sensor' "$work/body")"
expect 2 "$(jq -r '.outliers[0].reading' "$work/body")"
expect 400 "$(request --data-binary '{"readings":[{"sensor":"a","value":"1"}]}' "$base/")"
expect "readings[0].value is not a number" "$(jq -r .error "$work/body")"
expect 405 "$(request -X DELETE "$base/")"
expect_match '^allow: GET, HEAD, POST' "$work/head"
expect 404 "$(request "$base/nothing")"
expect 200 "$(request -I "$base/")"
expect 200 "$(request -H 'Transfer-Encoding: chunked' -H 'Expect: 100-continue' --data-binary @"$SKERRY_TOP/guest/examples/edge-service/readings.json" "$base/")"

test_case "one connection serves many requests"
expect "200 200 200" "$(curl -sS -o /dev/null -o /dev/null -o /dev/null -w '%{http_code}:%{num_connects} ' "$base/" "$base/healthz" "$base/" |
  awk '{ n = 0; for (i = 1; i <= NF; i++) { split($i, p, ":"); printf "%s%s", p[1], i < NF ? " " : "" ; n += p[2] } if (n != 1) printf " over %d connections", n }')"

test_case "what is not HTTP is refused and harms nobody"
port=${base##*:}
garbage=$(printf 'GET / HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n' | timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port; cat >&3; cat <&3" | head -n 1 || true)
case $garbage in *" 400 "*) ;; *) fail "garbage was answered with '$garbage'" ;; esac
expect 200 "$(request "$base/")"

test_case "a fresh instance for every request"
serve "$build/guest/edge-service.wasm" --isolation request
for _ in 1 2 3; do expect 200 "$(request "$base/")"; done

test_case "the smallest handler answers 1024 bytes"
serve "$build/guest/hello.wasm"
expect 200 "$(request "$base/")"
expect 1024 "$(stat -c %s "$work/body")"

test_case "a WAGI guest"
serve "$build/guest/edge-report.wasm" --handler wagi
expect 200 "$(request "$base/some/path?q=1")"
expect_match 'with GET /some/path over HTTP/1.1' "$work/body"
expect 200 "$(request --data-binary $'t1,2\nt2,3\nt1,9\n' "$base/")"
expect_match '^t1 +2 +2.000 +5.500 +9.000' "$work/body"
expect 400 "$(request --data-binary $'t1,x\n' "$base/")"
expect 405 "$(request -X PUT --data-binary x "$base/")"

stop_server
test_case "kill -9 of skerry run leaves no process"
serve "$build/guest/hello.wasm"
mapfile -t left < <(pgrep -f "skerry-sandbox keeper .*--parent $server( |\$)")
[ ${#left[@]} = 1 ] || fail "${#left[@]} keepers of skerry run ($server) instead of 1"
expect_match "$build/bin/stub/libLLVM" "/proc/${left[0]}/maps" # not the compiler's own: 1 MB a sandbox
mapfile -t -O 1 left < <(pgrep -P "${left[0]}")
[ ${#left[@]} -ge 3 ] || fail "its keeper has ${#left[@]} processes in all; a template and a sandbox are expected beside it"
kill -KILL "$server"
for pid in "$server" "${left[@]}"; do wait_until 10 process_gone "$pid" || fail "process $pid outlived skerry run: $(ps -o args= -p "$pid")"; done
server=

test_case "what is refused, and why"
refuse() { # FILE TEXT [OPTION…]
  local file=$1 text=$2 rc=0
  shift 2
  timeout 20 "$build/bin/skerry" run "$file" --port 0 "$@" >"$work/log" 2>&1 || rc=$?
  expect 1 "$rc"
  expect_match "$text" "$work/log"
}
printf '\177ELF...........' >"$work/elf.wasm"
refuse "$work/elf.wasm" 'not.*WebAssembly|no.*WebAssembly'
: >"$work/empty.wasm"
refuse "$work/empty.wasm" 'WebAssembly|empty'
printf '\0asm\r\0\1\0' >"$work/component.wasm"
refuse "$work/component.wasm" '[Cc]omponent'
head -c 3000 "$build/guest/edge-service.wasm" >"$work/cut.wasm"
refuse "$work/cut.wasm" 'ends too early'
rc=0
"$build/bin/skerry" run "$work/missing.wasm" >"$work/log" 2>&1 || rc=$?
expect 2 "$rc"

passed
