#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: a node answers the stock kubectl on its own loopback, with and without its control plane, before and after a start from the disk: get, describe,
# logs, events; scale and restart are passed on while the line is there, done here while it is not, and told on return, where the
# server's word wins. Nobody without the node's own credentials is answered, and no Secret is shown.
# Method: server and node as two programs, so that each dies alone; the edge service; kubectl; requests over the Service.
#                                                                               tests/e2e/local.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:?the build folder}" && pwd)
require_root "pods get namespaces"
for program in kubectl curl jq; do command -v $program >/dev/null || die "$program is missing; run scripts/setup test."; done

SKERRY=$build/bin/skerry
CLUSTER_DIR=$(mktemp -d /var/tmp/skerry-XXXXXX)
CLUSTER_ID=$(basename "$CLUSTER_DIR")
CLUSTER_PID=
data=$CLUSTER_DIR/data
range=$(free_ranges)
api_port=$(free_port)
node_port=$(free_port)
local_port=$(free_port)
server=
node=
common=(--data-dir "$data" --node-name edge-1 --service-cidr "10.$((range + 1)).0.0/16")

start_server() {
  "$SKERRY" server --listen "127.0.0.1:$api_port" --pod-cidr "10.$range.0.0/16" "${common[@]}" >>"$CLUSTER_DIR/server.log" 2>&1 &
  server=$!
  wait_until 60 k get --raw /readyz >/dev/null 2>&1 || fail "the server did not become ready: $(tail -n 5 "$CLUSTER_DIR/server.log")"
}
start_node() {
  "$SKERRY" node --port "$node_port" --local-port "$local_port" --overcommit cpu=10,memory=4 --pod-cidr "10.$range.0.0/16" \
    --pod-namespace "$CLUSTER_ID" --cgroup "$CLUSTER_ID" "${common[@]}" >>"$CLUSTER_DIR/node.log" 2>&1 &
  node=$!
  wait_until 60 kl get --raw /version >/dev/null 2>&1 || fail "the node does not answer on its loopback: $(tail -n 5 "$CLUSTER_DIR/node.log")"
}
kill_server() {
  kill -KILL "$server"
  wait_until 10 process_gone "$server"
  wait "$server" 2>/dev/null || true
  server=
}
# As a power cut has it: agent, keeper, sandboxes, all at once.
kill_node() {
  kill -KILL "$node" 2>/dev/null || true
  wait "$node" 2>/dev/null || true
  node=
  # shellcheck disable=SC2046
  kill -KILL $(pgrep -f "skerry-sandbox .*$CLUSTER_DIR" || true) 2>/dev/null || true
  sleep 0.5
  # shellcheck disable=SC2046
  kill -KILL $(cluster_pids | grep -vx "${server:-0}") 2>/dev/null || true
}
finish() {
  local rc=$?
  if [ $rc != 0 ]; then
    say "--- end of the node's log"
    tail -n 30 "$CLUSTER_DIR/node.log" >&2 || true
  fi
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  if [ -n "$node" ]; then kill_node; fi
  server=
  # A last node with --on-exit stop takes away what was made in the kernel.
  "$SKERRY" node --port "$node_port" --local-port 0 --on-exit stop --pod-cidr "10.$range.0.0/16" --pod-namespace "$CLUSTER_ID" --cgroup "$CLUSTER_ID" "${common[@]}" >>"$CLUSTER_DIR/last.log" 2>&1 &
  local last=$!
  wait_until 30 grep -q 'skerry is ready' "$CLUSTER_DIR/last.log" || true
  stop_pid "$last" 20 || rc=1
  stop_cluster || rc=1
  exit $rc
}
trap finish EXIT

column() { awk -v n="$1" 'NR > 1 { print $n }' | sort; }
pods_here() { kl get pods -l app=edge-service --no-headers 2>/dev/null | awk '$3 == "Running" && $2 == "1/1"' | wc -l; }
pods_here_are() { [ "$(pods_here)" = "$1" ]; }
exactly() { [ "$(kl get pods --no-headers 2>/dev/null | wc -l)" = "$1" ] && pods_here_are "$1"; }
standins() { kl get pods -o json | jq '[.items[] | select(.metadata.annotations["skerry.dev/stand-in"])] | length'; }
standins_are() { [ "$(standins)" = "$1" ]; }
replicas_are() { [ "$(k get deployment edge-service -o jsonpath='{.spec.replicas}')" = "$1" ]; }
ready_are() { [ "$(k get deployment edge-service -o jsonpath='{.status.readyReplicas}')" = "$1" ]; }
local_event() { kl get events -o json | jq -r '.items[] | .reason + " " + .message' | grep -E "$1" >/dev/null; }
server_event() { k get events -o json | jq -r '.items[] | .reason + " " + .message' | grep -E "$1" >/dev/null; }
offline() { [ "$(grep -c 'API server away' "$CLUSTER_DIR/node.log")" -ge "$1" ]; }
served() { curl -sS --fail --max-time 5 "http://$address/" >/dev/null; }
all_served() { # N requests over the Service, each answered
  local i
  for i in $(seq 1 "$1"); do served || fail "request $i of $1 over the Service was not answered"; done
}

start_server
start_node
"$SKERRY" image add "$build/guest/edge-service.wasm" registry.example.com/edge-service:latest --data-dir "$data" >&2
cp -r "$SKERRY_TOP/deploy/examples/edge-service" "$CLUSTER_DIR/manifests"
sed -i 's/replicas: 100/replicas: 2/' "$CLUSTER_DIR/manifests/deployment.yaml"
wait_until 30 node_is_ready || fail "the node did not become Ready"
k label node/edge-1 node-type=edge >&2
kill_node # what others write into the Node is read at a start, and every six hours: showing it asks the server nothing
start_node
k create secret generic sealed --from-literal=password=pomegranate >&2
k apply -f "$CLUSTER_DIR/manifests" >&2
k rollout status deployment/edge-service --timeout=60s >&2
address=$(k get service edge-service -o jsonpath='{.spec.clusterIP}')
wait_until 20 served || fail "the Service does not answer"
owners_known() { [ -n "$(kl get deployments -o name)" ]; }
wait_until 20 owners_known || fail "the node does not know its pods' Deployment"

test_case "who may ask: the node's own administrator, nobody else"
expect 600 "$(stat -c %a "$data/node/local.kubeconfig")"
expect 401 "$(curl -sk -o /dev/null -w '%{http_code}' "https://127.0.0.1:$local_port/api/v1/pods")"
for part in certificate key; do k config view --raw -o json | jq -r ".users[0].user.\"client-$part-data\"" | base64 -d >"$CLUSTER_DIR/admin.$part"; done
expect 401 "$(curl -sk -o /dev/null -w '%{http_code}' --cert "$CLUSTER_DIR/admin.certificate" --key "$CLUSTER_DIR/admin.key" "https://127.0.0.1:$local_port/api/v1/pods")"
expect "127.0.0.1:$local_port" "$(ss -Hltn "sport = :$local_port" | awk '{ print $4 }')"

test_case "with the line: the same pods as the server says"
expect "$(k get pods | column 1)" "$(kl get pods | column 1)"
expect "$(k get pods -o jsonpath='{.items[*].metadata.uid}')" "$(kl get pods -o jsonpath='{.items[*].metadata.uid}')"

test_case "with the line: scale and restart are passed on"
kl scale deployment edge-service --replicas=3 >"$CLUSTER_DIR/out" 2>&1 || fail "$(cat "$CLUSTER_DIR/out")"
expect_match 'deployment.apps/edge-service scaled' "$CLUSTER_DIR/out"
replicas_are 3 || fail "the server has $(k get deployment edge-service -o jsonpath='{.spec.replicas}')"
wait_until 30 ready_are 3 || fail "the third pod did not come"
kl scale deployment edge-service --replicas=2 >&2
wait_until 60 exactly 2 || fail "$(kl get pods)"
expect 0 "$(standins)"
kl rollout restart deployment edge-service >&2
k get deployment edge-service -o json | jq -e '.spec.template.metadata.annotations["kubectl.kubernetes.io/restartedAt"]' >/dev/null || fail "the restart did not reach the server"
k rollout status deployment/edge-service --timeout=60s >&2
wait_until 60 exactly 2 || fail "$(kl get pods)"
uids=$(kl get pods -o jsonpath='{.items[*].metadata.uid}')

deployment_counts() { kl describe deployment edge-service | grep -E '2 desired \| 2 updated \| 2 total \| 2 available' >/dev/null; }
reads() {
  expect 2 "$(pods_here)"
  expect "$uids" "$(kl get pods -o jsonpath='{.items[*].metadata.uid}')"
  local pod
  pod=pod/$(kl get pods -o jsonpath='{.items[0].metadata.name}')
  kl describe "$pod" >"$CLUSTER_DIR/out"
  expect_match 'Controlled By: +ReplicaSet/edge-service-' "$CLUSTER_DIR/out"
  expect_match 'Node: +edge-1' "$CLUSTER_DIR/out"
  expect_match 'Ready +True' "$CLUSTER_DIR/out"
  expect_match 'Normal +Started .*listens on' "$CLUSTER_DIR/out"
  kl events --for "$pod" >"$CLUSTER_DIR/out"
  expect_match 'Started +(Pod/)?edge-service.*listens on' "$CLUSTER_DIR/out"
  local_event 'Pulled .*already present' || fail "no Event of the image: $(kl get events)"
  kl describe node edge-1 >"$CLUSTER_DIR/out"
  expect_match 'node-type=edge' "$CLUSTER_DIR/out"
  expect_match 'Non-terminated Pods: +\(2 in total\)' "$CLUSTER_DIR/out"
  expect_match 'Ready +True' "$CLUSTER_DIR/out"
  # What a Deployment counts is read again two seconds after pods of it came or went.
  wait_until 10 deployment_counts || fail "$(kl describe deployment edge-service | grep Replicas:)"
  expect_text 'edge-service +2/2' "$(kl get deployments)"
  expect_text 'edge-service +ClusterIP' "$(kl get services)"
  expect_text 'edge-service' "$(kl get endpointslices)"
  served
  kl logs "$pod" >"$CLUSTER_DIR/out" || fail "no log"
  expect_text 'not shown here' "$(kl get secrets 2>&1 || true)"
  kl get --raw /api/v1/secrets >"$CLUSTER_DIR/out" 2>&1 || true
  ! grep -q cG9tZWdyYW5hdGU "$CLUSTER_DIR/out" || fail "a Secret is shown"
  expect_text 'takes `kubectl scale deployment`' "$(kl delete "$pod" 2>&1 || true)"
  expect_text 'rollout restart|restart its Deployment' "$(kl delete "$pod" 2>&1 || true)"
  expect_text 'spec.replicas .*restart annotation' "$(kl set image deployment/edge-service edge-service=other:1 2>&1 || true)"
  expect_text 'takes `kubectl scale' "$(kl create configmap x --from-literal=a=b 2>&1 || true)"
  expect_text 'Unsupported value|must be greater than or equal to 0|invalid' "$(kl patch deployment edge-service --subresource=scale --type=merge -p '{"spec":{"replicas":-1}}' 2>&1 || true)"
}
test_case "with the line: get, describe, logs; what is refused, and why"
reads

test_case "the control plane is killed: the same"
sleep 4 # a node that loses the line in the very second of a rollout does not know the new ReplicaSet yet
kill_server
wait_until 60 offline 1 || fail "the node did not notice"
reads
timeout 5 kubectl --kubeconfig "$data/node/local.kubeconfig" --cache-dir "$CLUSTER_DIR/kube-cache" get pods -w --no-headers >"$CLUSTER_DIR/watch" 2>/dev/null &
watch=$!

test_case "offline: scale up: stand-ins serve"
sleep 1
kl scale deployment edge-service --replicas=4 >"$CLUSTER_DIR/out" 2>&1 || fail "$(cat "$CLUSTER_DIR/out")"
expect_match 'scaled' "$CLUSTER_DIR/out"
expect_match 'Warning: the control plane has not taken it yet' "$CLUSTER_DIR/out"
wait_until 60 exactly 4 || fail "$(kl get pods; kl get events)"
expect 2 "$(standins)"
expect_text 'edge-service +4/4' "$(kl get deployments)"
slice_has() { nft list ruleset | grep -F "$1 " >/dev/null; }
for ip in $(kl get pods -o json | jq -r '.items[] | select(.metadata.annotations["skerry.dev/stand-in"]) | .status.podIP'); do
  curl -sS --fail --max-time 5 "http://$ip:8080/" >/dev/null || fail "the stand-in at $ip does not answer"
  wait_until 10 slice_has "$ip" || fail "the Service does not know the stand-in at $ip"
done
kl get events -o json | jq -e '[.items[] | select(.reason == "Started" and (.involvedObject.name | contains("standin")))] | length == 2' >/dev/null || fail "no Events of the stand-ins: $(kl get events)"
expect_text 'skerry-local-edge-service' "$(kl get endpointslices)"
all_served 40
wait "$watch" || true
expect_match 'standin' "$CLUSTER_DIR/watch"
expect_text 'do not fit|no room' "$(kl scale deployment edge-service --replicas=5000 2>&1 || true)"

test_case "offline: the node is killed with all its processes, and starts again from its disk"
kill_node
start_node
wait_until 60 exactly 4 || fail "$(kl get pods)"
expect 2 "$(standins)"
expect_text 'edge-service +4/4' "$(kl get deployments)"
all_served 20

test_case "offline: restart in place, one pod after the other"
before=$(kl get pods -o json | jq '[.items[].status.containerStatuses[0].restartCount] | add')
kl rollout restart deployment edge-service >"$CLUSTER_DIR/out" 2>&1 || fail "$(cat "$CLUSTER_DIR/out")"
expect_match 'restarted' "$CLUSTER_DIR/out"
restarted() { [ "$(kl get pods -o json | jq '[.items[].status.containerStatuses[0].restartCount] | add')" = $((before + 4)) ]; }
wait_until 60 restarted || fail "$(kl get pods)"
wait_until 60 exactly 4 || fail "$(kl get pods)"
all_served 20

test_case "the line returns without a conflict: told, and the server's pods take over"
start_server
wait_until 60 replicas_are 4 || fail "the server has $(k get deployment edge-service -o jsonpath='{.spec.replicas}')"
wait_until 60 server_event 'LocalChangeReplayed.*spec.replicas.*"2" to "4"' || fail "no Event: $(k get events)"
wait_until 60 server_event 'LocalChangeReplayed.*restart annotation' || fail "no Event: $(k get events)"
wait_until 150 standins_are 0 || fail "stand-ins stay: $(kl get pods)"
k rollout status deployment/edge-service --timeout=60s >&2
wait_until 60 exactly 4 || fail "$(kl get pods)"
expect "$(k get pods | column 1)" "$(kl get pods | column 1)"
[ -z "$(k get events -o json | jq -r '.items[].involvedObject.name' | grep standin)" ] || fail "the server was told of stand-ins: $(k get events)"
all_served 20

test_case "offline: scale down: the surplus is held, and the Service leaves it out"
away=$(grep -c 'API server away' "$CLUSTER_DIR/node.log")
kill_server
wait_until 60 offline $((away + 1)) || fail "the node did not notice"
kl scale deployment edge-service --replicas=1 >"$CLUSTER_DIR/out" 2>&1 || fail "$(cat "$CLUSTER_DIR/out")"
wait_until 60 pods_here_are 1 || fail "$(kl get pods)"
expect_text 'ScaledDown' "$(kl get pods)"
wait_until 15 served || fail "the one that is left does not serve"
sleep 2
all_served 30

test_case "the line returns with a conflict: the server's value wins, and both are named"
kill_node # so that the other change is made before the node can tell its own
start_server
k scale deployment edge-service --replicas=3 >&2
start_node
wait_until 60 server_event 'LocalChangeLost.*"4" to "1".*says "3"' || fail "no Event: $(k get events)"
expect_match 'a change that was made at this node does not hold' "$CLUSTER_DIR/node.log"
replicas_are 3 || fail "the server has $(k get deployment edge-service -o jsonpath='{.spec.replicas}')"
wait_until 90 exactly 3 || fail "$(kl get pods)"
expect "$(k get pods | column 1)" "$(kl get pods | column 1)"
all_served 20

passed
