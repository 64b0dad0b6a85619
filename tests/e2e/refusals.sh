#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: a module that the sandbox cannot run is refused by the name of what stands in the way, with the remedy, when it is
# added and when a pod is to start it; foreign native code is never executed.
# Method: small modules by wat2wasm to `skerry image add`; then put into the store behind its back, as an older version might
# have, and named by pods.                                                        tests/e2e/refusals.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:?the build folder}" && pwd)
work=$(mktemp -d /tmp/skerry-refusals-XXXXXX)
server=
finish() {
  local rc=$?
  [ -z "$server" ] || stop_pid "$server" 10 || rc=1
  stop_cluster || rc=1
  rm -rf "$work"
  exit $rc
}
trap finish EXIT

start='(memory (export "memory") 1) (func (export "_start"))'
module() { # NAME WAT [wat2wasm's option…]
  printf '(module %s)' "$2" >"$work/$1.wat"
  wat2wasm "${@:3}" "$work/$1.wat" -o "$work/$1.wasm"
}
printf '\0asm\r\0\1\0' >"$work/component.wasm"
module wasix "(import \"wasix_32v1\" \"thread_spawn\" (func (param i32 i32) (result i32))) $start"
module emscripten "(import \"env\" \"emscripten_resize_heap\" (func (param i32) (result i32))) $start"
module unknown "(import \"env\" \"read_sensor\" (func (param i32 i32) (result i32))) $start"
module preview2 "(import \"wasi:io/poll@0.2.0\" \"poll\" (func (param i32 i32) (result i32))) $start"
module old "(import \"wasi_unstable\" \"fd_close\" (func (param i32) (result i32))) $start"
module sockets "(import \"wasi_snapshot_preview1\" \"sock_accept\" (func (param i32 i32) (result i32))) $start"
module threads '(memory (export "memory") 1 2 shared) (func (export "_start"))' --enable-threads
module wide '(memory (export "memory") i64 1) (func (export "_start"))' --enable-memory64
module library '(memory (export "memory") 1) (func (export "add"))'
# name, what names it, the remedy
refusals=(
  'component|component model|core module for WASI preview 1'
  'wasix|wasix_32v1\.thread_spawn: WASIX|WASI preview 1 \(target wasm32-wasip1\)'
  'emscripten|env\.emscripten_resize_heap.*emscripten|wasi-sdk or clang --target=wasm32-wasi'
  'unknown|env\.read_sensor \(ii\)->\(i\)|link the missing function into the module'
  'preview2|wasi:io/poll@0\.2\.0\.poll.*component model|core module for WASI preview 1'
  'old|wasi_unstable\.fd_close|current toolchain'
  'sockets|sockets of its own|http-wasm handler or a WAGI command'
  'threads|shared memory \(threads\)|without -pthread'
  'wide|64-bit memory|wasm32'
  'library|neither handle_request nor _start|export one of them'
)

start_cluster "$build"
test_case "image add refuses by name, with the remedy, and keeps nothing"
for line in "${refusals[@]}"; do
  IFS='|' read -r name reason remedy <<<"$line"
  rc=0
  "$SKERRY" image add "$work/$name.wasm" "refused.example/$name:1" --data-dir "$CLUSTER_DIR/data" >"$work/log" 2>&1 || rc=$?
  expect 1 "$rc"
  expect_match "$reason" "$work/log"
  expect_match "$remedy" "$work/log"
done
"$SKERRY" image ls --data-dir "$CLUSTER_DIR/data" >"$work/log" 2>&1
! grep -q refused.example "$work/log" || fail "a refused image is in the store: $(cat "$work/log")"

test_case "a pod with such an image says so, and its neighbour serves"
images=$CLUSTER_DIR/data/images
"$SKERRY" image add "$build/guest/hello.wasm" registry.example.com/hello:1 --data-dir "$CLUSTER_DIR/data"
for line in "${refusals[@]}"; do
  name=${line%%|*}
  digest=$(sha256sum "$work/$name.wasm" | cut -d' ' -f1)
  cp "$work/$name.wasm" "$images/blobs/sha256/$digest"
  jq -c --arg ref "refused.example/$name:1" --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$work/$name.wasm")" \
    '.images += [.images[0] + {ref: $ref, digest: $digest, size: $size}]' "$images/index.json" >"$work/index.json"
  cp "$work/index.json" "$images/index.json"
done
pod() { # NAME IMAGE
  printf 'apiVersion: v1\nkind: Pod\nmetadata: { name: %s }\nspec: { containers: [{ name: app, image: "%s", imagePullPolicy: IfNotPresent }] }\n---\n' "$1" "$2"
}
{
  for line in "${refusals[@]}"; do pod "${line%%|*}" "refused.example/${line%%|*}:1"; done
  pod neighbour registry.example.com/hello:1
} | k apply -f - >&2
k wait --for=condition=Ready pod/neighbour --timeout=60s >&2
waiting() { k get pod "$1" -o jsonpath='{.status.containerStatuses[0].state.waiting.message}'; }
says() { waiting "$1" | grep -qE -- "$2"; }
for line in "${refusals[@]}"; do
  IFS='|' read -r name reason remedy <<<"$line"
  wait_until 30 says "$name" "$reason" || fail "pod $name says: $(k get pod "$name" -o jsonpath='{.status}')"
  expect_text "$remedy" "$(waiting "$name")"
  expect Pending "$(k get pod "$name" -o jsonpath='{.status.phase}')"
done
curl -sSf --max-time 5 -o /dev/null "http://$(k get pod neighbour -o jsonpath='{.status.podIP}'):8080/" || fail "the neighbour does not answer"

test_case "native code of another compiler is not executed"
cp "$build/guest/hello.wasm" "$work/foreign.wasm"
# A custom section "wasmedge" of 64 bytes that are no code.
{
  printf '\0\111\010wasmedge'
  head -c 64 /dev/zero | tr '\0' '\314'
} >>"$work/foreign.wasm"
port=$(free_port)
"$build/bin/skerry" run "$work/foreign.wasm" --port "$port" >"$work/log" 2>&1 &
server=$!
wait_until 20 curl -s -o /dev/null "http://127.0.0.1:$port/" || fail "skerry run did not answer: $(cat "$work/log")"
expect 1024 "$(curl -sS "http://127.0.0.1:$port/" | wc -c)"

passed
