#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: every command answers wrong input with a sentence that says what to do and the documented exit code, and leaves nothing
# behind; an image that pods use stays.       tests/e2e/cli.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:?the build folder}" && pwd)
SKERRY=$build/bin/skerry
hello=$build/guest/hello.wasm
work=$(mktemp -d /tmp/skerry-cli-XXXXXX)
other=
finish() {
  local rc=$?
  trap - EXIT
  trap '' INT TERM HUP
  [ -z "$other" ] || stop_pid "$other" 30 || rc=1
  stop_cluster || rc=1
  ! mountpoint -q "$work/small" || umount "$work/small"
  rm -rf "$work"
  exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# refuses CODE TEXT ARGUMENT… : `skerry ARGUMENT…` ends with the code, and says TEXT on standard error.
refuses() {
  local code=$1 text=$2 rc=0
  shift 2
  timeout -k 10 60 "$SKERRY" "$@" >"$work/out" 2>"$work/err" || rc=$?
  [ "$rc" = "$code" ] || fail "skerry $* ended with $rc instead of $code: $(head -c 600 "$work/err")" 1
  grep -qE -- "$text" "$work/err" || fail "skerry $* did not say '$text' but: $(head -c 600 "$work/err")" 1
}

test_case "wrong usage ends with 2, before anything is made"
data=$work/data
refuses 2 'the commands are up, server, node, run and image'
refuses 2 '"upp" is not a command' upp
refuses 2 'the commands are add, pull, push, inspect, ls, pin, unpin and rm' image
refuses 2 '--bogus' run "$hello" --bogus
refuses 2 'is not a port' run "$hello" --port 70000
refuses 2 'No such file|does not exist' run "$work/none.wasm"
refuses 2 'directory' run "$work"
refuses 2 'FILE is required' run
refuses 2 'REFERENCE is required' image rm --data-dir "$data"
refuses 2 'a port from 1 to 65535' server --listen 127.0.0.1:0 --data-dir "$data"
[ ! -e "$data" ] || fail "wrong usage made $data"

test_case "skerry run: what cannot be served ends with 1 and says why"
echo text >"$work/text.wasm"
refuses 1 'not a WebAssembly module' run "$work/text.wasm" --port 0
truncate -s 300M "$work/huge.wasm"
refuses 1 'at most 64 MiB' run "$work/huge.wasm" --port 0
refuses 1 'leave --handler wagi out' run "$hello" --handler wagi --port 0
refuses 1 'serve it with --handler wagi' run "$build/guest/edge-report.wasm" --port 0
refuses 1 'no such address' run "$hello" --listen 192.0.2.77:8080
port=$(free_port)
"$SKERRY" run "$hello" --port "$port" >"$work/log" 2>&1 &
other=$!
wait_until 60 curl -s -o /dev/null "http://127.0.0.1:$port/" || fail "skerry run does not answer: $(cat "$work/log")"
refuses 1 "port $port of 127.0.0.1 is taken by another program" run "$hello" --port "$port"
expect "serving $hello on http://127.0.0.1:$port/" "$(cat "$work/log")"
stop_pid "$other" 20
other=

test_case "images: nothing there, wrong names, a full disk"
refuses 0 'no images in .*data/images; add one with' image ls --data-dir "$data"
[ ! -e "$data" ] || fail "looking made $data"
refuses 1 'is --data-dir right' image rm app:1 --data-dir "$data"
refuses 1 'is not an image reference' image add "$hello" 'App 1' --data-dir "$data"
refuses 1 'is not a WebAssembly module' image add "$work/text.wasm" app:1 --data-dir "$data"
refuses 1 'at most 64 MiB' image add "$work/huge.wasm" app:1 --data-dir "$data"
refuses 1 'is not stored; skerry image ls shows what is' image rm app:1 --data-dir "$data"
refuses 1 'is not on this node' image pin app:1 --data-dir "$data"
refuses 2 'is no folder' image ls --data-dir "$work/text.wasm"
mkdir "$work/small"
mount -t tmpfs -o size=64k tmpfs "$work/small"
head -c 60000 /dev/zero >"$work/small/fill"
refuses 1 'No space left' image add "$build/guest/edge-service.wasm" app:1 --data-dir "$work/small/data"
rm "$work/small/fill"
expect "" "$("$SKERRY" image ls --json --data-dir "$work/small/data" 2>/dev/null)"
umount "$work/small"

test_case "without root, each command says what it needs"
chmod 755 "$work"
mkdir "$work/public"
cp "$build"/bin/skerry "$build"/bin/skerry-sandbox "$build"/bin/skerry-compile "$hello" "$work/public"  # the clone may lie where another user cannot read
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$work/public/skerry" "$@"; }
for command in up node; do
  rc=0
  as_nobody "$command" >"$work/out" 2>"$work/err" || rc=$?
  expect 1 "$rc"
  expect_match 'needs root' "$work/err"
done
rc=0
as_nobody image add "$work/public/$(basename "$hello")" app:1 --data-dir /var/lib/skerry-nobody >"$work/out" 2>"$work/err" || rc=$?
expect 1 "$rc"
expect_match 'run as root, or give --data-dir a folder that you may write' "$work/err"

test_case "a data folder that is another machine's is refused, with both machines and the way out"
mkdir -p "$work/moved/node"
echo 'the-first-machine/its-uuid' >"$work/moved/node/machine"
: >"$work/none.kubeconfig"
refuses 1 'belongs to machine the-first-machine/its-uuid .*and this is machine .*--accept-new-machine' node --data-dir "$work/moved" --kubeconfig "$work/none.kubeconfig"
expect 'the-first-machine/its-uuid' "$(cat "$work/moved/node/machine")"
[ ! -e "$work/moved/node/pki" ] || fail "keys were made in another machine's folder"

test_case "skerry up ends when its server cannot start, and leaves nothing"
port=$(free_port)
"$SKERRY" run "$hello" --port "$port" >"$work/log" 2>&1 &
other=$!
wait_until 60 curl -s -o /dev/null "http://127.0.0.1:$port/" || fail "skerry run does not answer: $(cat "$work/log")"
name=skerry-$$
refuses 1 "Address already in use; choose another port" up --data-dir "$work/up" --listen "127.0.0.1:$port" --port "$(free_port)" \
  --pod-namespace "$name" --cgroup "$name" --pod-cidr 10.250.0.0/16 --service-cidr 10.251.0.0/16
expect_match '`skerry server` could not start' "$work/err"
[ ! -e "/run/skerry/$name" ] || fail "the network namespace /run/skerry/$name stayed"
expect "" "$(find /sys/fs/cgroup -maxdepth 3 -type d -name "$name")"
stop_pid "$other" 20
other=

test_case "skerry up told to end at any moment of its start leaves nothing"
for delay in 0.01 0.02 0.03 0.04 0.05 0.06 0.08 0.12 0.20; do
  "$SKERRY" up --data-dir "$work/brief" --listen "127.0.0.1:$port" --port "$(free_port)" --local-port 0 \
    --pod-namespace "$name" --cgroup "$name" --pod-cidr 10.250.0.0/16 --service-cidr 10.251.0.0/16 >"$work/log" 2>&1 &
  other=$!
  until [ "/proc/$other/exe" -ef "$SKERRY" ]; do process_gone "$other" && fail "skerry up did not start: $(cat "$work/log")"; done
  sleep "$delay"
  stop_pid "$other" 20
  other=
  [ ! -e "/run/skerry/$name" ] || fail "ended after $delay s, the network namespace /run/skerry/$name stayed: $(cat "$work/log")"
  expect "" "$(find /sys/fs/cgroup -maxdepth 3 -type d -name "$name")"
  expect "" "$(pgrep -f "skerry.*$work/brief")"
  expect "" "$(nft list tables | grep "${name//-/_}")"
done

test_case "skerry up killed: nothing of it stays unwatched, the next one goes on"
start_cluster "$build"
mapfile -t halves < <(pgrep -P "$CLUSTER_PID")
expect 2 "${#halves[@]}"
keeper=$(pgrep -f "skerry-sandbox keeper .*$CLUSTER_ID" | head -n 1)
[ -n "$keeper" ] || fail "no keeper runs"
kill -9 "$CLUSTER_PID"
for half in "${halves[@]}"; do wait_until 10 process_gone "$half" || fail "$(process_name "$half") outlived the skerry up that watched it"; done
process_gone "$keeper" && fail "the keeper ended with skerry up: awake pods would have stopped serving"
launch_cluster
[ -s "$CLUSTER_DIR/data/node/machine" ] || fail "the data folder does not say whose it is"
expect "" "$(k get csr -o name)"  # the server renews the node's certificates in the folder that they share
expect "" "$(find "$CLUSTER_DIR/data/node/pki" -name '*.pem' 2>/dev/null)"
expect "$keeper" "$(pgrep -f "skerry-sandbox keeper .*$CLUSTER_ID" | head -n 1)"

test_case "a bearer token of the token file is somebody, another one is nobody"
stop_cluster
printf '%s\n' 'c0ffee-of-the-operator,operator,u1,"system:masters,people"' 'short-of-bob,bob,u2' >"$work/tokens.csv"
chmod 600 "$work/tokens.csv"
start_cluster "$build" --token-auth-file "$work/tokens.csv"
with_token() { curl -sk --max-time 5 -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $1" "https://$CLUSTER_API/api/v1/pods"; }
expect 200 "$(with_token c0ffee-of-the-operator)"
expect 403 "$(with_token short-of-bob)"
expect 401 "$(with_token c0ffee-of-the-operato)"
stop_cluster
chmod 644 "$work/tokens.csv"
refuses 1 'can be read by others' server --data-dir "$work/t" --listen "127.0.0.1:$(free_port)" --token-auth-file "$work/tokens.csv"
chmod 600 "$work/tokens.csv"
echo 'no-commas' >>"$work/tokens.csv"
refuses 1 'line 3' server --data-dir "$work/t" --listen "127.0.0.1:$(free_port)" --token-auth-file "$work/tokens.csv"

test_case "an image that pods use stays, its name too; a replaced one goes"
start_cluster "$build"
k apply -f "$SKERRY_TOP/deploy/examples/edge-service/runtimeclass.yaml" >/dev/null
data=$CLUSTER_DIR/data
"$SKERRY" image add "$hello" registry.example.com/used:1 --data-dir "$data" >/dev/null
k apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  runtimeClassName: wasmedge
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: registry.example.com/used:1, imagePullPolicy: IfNotPresent, ports: [{containerPort: 8080}]}
YAML
k wait --for=condition=Ready pod/user --timeout=60s >/dev/null || fail "the pod did not become ready"
refuses 1 'is used by pods of this node; delete the pods first' image rm registry.example.com/used:1 --data-dir "$data"
blob=$(find "$data/images/blobs/sha256" -type f)
"$SKERRY" image add "$build/guest/edge-service.wasm" registry.example.com/used:1 --data-dir "$data" >/dev/null
[ -e "$blob" ] || fail "the module of a running pod was deleted"
refuses 1 'another `skerry up` runs on' up --data-dir "$data"
refuses 1 'another `skerry server` uses' server --data-dir "$data" --listen "127.0.0.1:$(free_port)"
k delete pod user --wait=true >/dev/null
"$SKERRY" image rm registry.example.com/used:1 --force --data-dir "$data" >/dev/null
expect "" "$("$SKERRY" image ls --json --data-dir "$data" 2>/dev/null)"
stop_cluster

passed
