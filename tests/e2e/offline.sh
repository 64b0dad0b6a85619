#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: a node that is cut off goes on, comes back from a power cut without network, and recreates nothing when the line returns.
# Method: `skerry server` and `skerry node` in two network namespaces; the line between them is cut by nftables, the node's machine
# loses its power (kill -9 of everything, the kernel's state with it), the server dies or comes back from an older backup.
# A load runs over the Service all the while; what pods are (uid, address, container, restarts) is compared afterwards, as the node itself
# has it, and as the server has it once the node has reported since.
#                                                                               tests/e2e/offline.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=../../scripts/line.sh
. "$SKERRY_TOP/scripts/line.sh"
build=$(cd "${1:?the build folder}" && pwd)
require_root "pods get namespaces, and the line is made of them"
load=$build/bin/skerry-bench-load
loader=
finish() {
  local rc=$?
  [ -z "$loader" ] || stop_pid "$loader" 5 || rc=1
  line_stop || rc=1
  exit $rc
}
trap finish EXIT

pods=100
# What must not change: of each pod its uid, address, container and restarts.
identities_of() { jq -r '.items[] | [.metadata.name, .metadata.uid, .status.podIP, (.status.containerStatuses[0] | .containerID, .restartCount)] | @tsv' | sort; }
identities() { k get pods -l app=edge-service -o json | identities_of; }
on_node_kubectl() { on_node kubectl --kubeconfig "$CLUSTER_DIR/data/node/local.kubeconfig" --cache-dir "$CLUSTER_DIR/kube-cache" "$@"; }
identities_here() { on_node_kubectl get pods -l app=edge-service -o json | identities_of; }
# same_pods [POD] : but that one. The server may still show what it was told long ago: it counts what the node has, and what the server shows after
# a Lease that is newer.
same_pods() {
  local since but=${1:-no pod}
  but+=$'\t'
  grep -v "^$but" "$work/before" >"$work/stay"
  identities_here | grep -v "^$but" | diff "$work/stay" - >"$work/diff" || fail "pods on the node are not what they were (name, uid, address, container, restarts): $(head -n 12 "$work/diff"; of_pods)" 1
  since=$(date -u +%Y-%m-%dT%H:%M:%S.999999Z)
  wait_until 30 renewed_since "$since" || fail "the node has not renewed its Lease" 1
  identities | grep -v "^$but" | diff "$work/stay" - >"$work/diff" || fail "pods are not what they were (name, uid, address, container, restarts): $(head -n 12 "$work/diff"; of_pods)" 1
}
renewed_since() { [[ $(k get lease edge -n kube-node-lease -o jsonpath='{.spec.renewTime}') > $1 ]]; }
# of_pods : what is known of the pods that the file `diff` names.
of_pods() {
  local pod
  for pod in $(awk '/^[<>]/ { print $2 }' "$work/diff" | sort -u | head -n 3); do
    k get pod "$pod" -o json 2>&1 | jq -c '{pod: .metadata.name, phase: .status.phase, container: .status.containerStatuses[0]}' || true
    grep -F "$pod" "$CLUSTER_LOG" | tail -n 8 || true
  done
}
restarts() { identities | awk '{ sum += $5 } END { print sum + 0 }'; }
restarts_are() { [ "$(restarts)" = "$1" ]; }
# busy_sandbox : the one that holds the most sockets; one that serves nobody holds one, to its keeper.
busy_sandbox() {
  local pid
  for pid in $(line_node_pids); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != skerry-slot ] || echo "$(find "/proc/$pid/fd" -lname 'socket:*' 2>/dev/null | wc -l) $pid"
  done | sort -n | awk 'END { if ($1 > 2) print $2 }'
}
# environment : of the pod that shows it, as it is answered now.
environment() { on_node curl -sS --fail --max-time 5 "http://$shown/" | tr '\0' '\n' >"$work/environment" || fail "the pod that shows its environment does not answer" 1; }
has_values() {
  environment
  expect_match '^level=high$' "$work/environment"
  expect_match '^word=hunter2$' "$work/environment"
  expect_match '^one=hunter2$' "$work/environment"
}
all_ready() { [ "$(node_metric skerry_agent_pods_ready)" = $((${1:-$pods} + 1)) ]; } # and the one that shows its environment
connected() { [ "$(node_metric skerry_agent_api_connected)" = 1 ]; }
disconnected() { [ "$(node_metric skerry_agent_api_connected)" = 0 ]; }
# What only the pods of an autonomous node keep: readiness in their statuses, and so their endpoints.
told_autonomous() { [ "$(k get events -A -o json | jq '[.items[] | select(.reason == "NodeAutonomous" and .involvedObject.name == "edge")] | length')" -gt 0 ]; }
ready_endpoints() { k get endpointslices -l kubernetes.io/service-name=edge-service -o json | jq '[.items[].endpoints[]? | select(.conditions.ready)] | length'; }
revision() { k get --raw '/api/v1/namespaces/default/configmaps?limit=1' | jq -r .metadata.resourceVersion; }
# push_past REVISION : the server's, by ConfigMaps that come and go.
push_past() {
  local i
  for i in $(seq 50); do printf -- '---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: filler-%d}\n' "$i"; done >"$work/fillers"
  for i in $(seq 100); do
    [ "$(revision)" -le "$1" ] || return 0
    { k create -f "$work/fillers" && k delete -f "$work/fillers"; } >"$work/said" 2>&1 || fail "$(tail -n 3 "$work/said")" 1
  done
  fail "the server's revision is $(revision) and does not pass $1" 1
}
too_old() { grep -cE 'watch too old.*resource="?pods' "$CLUSTER_LOG" || true; }
told_as_here() { [ "$(identities | grep "^$1"$'\t')" = "$(identities_here | grep "^$1"$'\t')" ]; }
node_unknown() { k get node edge -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' | grep -q Unknown; }
pod_count() { [ "$(k get pods -l app=edge-service -o name | wc -l)" = "$1" ]; }
running() { [ "$(k get pods -l app=edge-service -o json | jq '[.items[] | select(.metadata.deletionTimestamp == null) | .status.conditions[] | select(.type == "Ready" and .status == "True")] | length')" = "$1" ]; }
# The control groups of running sandboxes, with their memory limits. The power cut removed all that there were.
slots_with_processes() {
  local group
  find /sys/fs/cgroup -type d -path "*/$CLUSTER_ID/slot-*" | while read -r group; do
    ! grep -q . "$group/cgroup.procs" || grep -Hs . "$group/memory.limit_in_bytes" "$group/memory.max" || true
  done
}
limit_holds() { [ "$(slots_with_processes | grep -c ":$((512 * 1024 * 1024))\$")" -gt 0 ]; }
# Drift needs two comparisons: it is looked for after four of each of the five kinds.
compared() { [ "$(node_metric skerry_agent_digests_compared_total)" -ge $((compared_before + 20)) ]; }
no_drift() { # [COUNT] : no more than that
  compared_before=$(node_metric skerry_agent_digests_compared_total)
  wait_until 60 compared || fail "the node compares nothing with the server" 1
  expect "${1:-0}" "$(node_metric skerry_agent_drift_total)"
}
# load_start SECONDS : over the Service, from the node's machine; load_end sets failures.
load_start() {
  nsenter "--net=/run/netns/$LINE_NODE" "$load" "$service:80" --mode open --rate 100 --connections 40 --seconds "$1" --timeout 1000 --errors-max 1000000 >"$work/load" 2>"$work/load.said" &
  loader=$!
}
load_end() {
  wait "$loader" || fail "the load ended badly: $(cat "$work/load.said")"
  loader=
  failures=$(jq .errors "$work/load")
}
answers_cold() { on_node "$load" --mode cold --targets "$work/targets" >"$work/cold" 2>&1 || fail "not every pod answers: $(cat "$work/cold")" 1; }
name_is() { [ "$(on_node dig "@$dns" +time=2 +tries=1 +short "$1")" = "$2" ]; }
agent_pid() { echo "$LINE_NODE_PID"; }
keeper_pid() {
  local pid
  for pid in $(line_node_pids); do [ "$(process_name "$pid")" != "skerry-sandbox keeper" ] || echo "$pid"; done
}
# Of what nobody else here lists.
lists_of_nodes() { on_server curl -sS -k --cert "$CLUSTER_DIR/admin.certificate" --key "$CLUSTER_DIR/admin.key" https://192.0.2.1:6443/metrics |
  awk '/^apiserver_request_total/ && /verb="LIST"/ && (/resource="services"/ || /resource="endpointslices"/) { sum += $NF } END { print sum + 0 }'; }

line_start "$build" --lease-period 5s
work=$CLUSTER_DIR
"$SKERRY" image add "$build/guest/edge-service.wasm" registry.example.com/edge-service:latest --data-dir "$CLUSTER_DIR/data" >&2
k label --overwrite node/edge node-type=edge >&2
cp -r "$SKERRY_TOP/deploy/examples/edge-service" "$work/manifests"
# Each pod refers to a ConfigMap and a Secret: without them it does not start.
sed -i "s/replicas: 100/replicas: $pods/; s/^        image: .*/&\n        envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: password}}]/" "$work/manifests/deployment.yaml"
sed -i 's/sync_interval: .*/sync_interval: "5s"/' "$work/manifests/configmap.yaml"
k create configmap settings --from-literal=level=high >&2
k create secret generic password --from-literal=word=hunter2 >&2
k apply -f "$work/manifests" >&2
k rollout status deployment/edge-service --timeout=120s >&2
service=$(k get service edge-service -o jsonpath='{.spec.clusterIP}')
dns=$(awk '$1 == "nameserver" { print $2 }' "$CLUSTER_DIR/data/node/resolv.conf")
k get pods -l app=edge-service -o jsonpath='{range .items[*]}{.status.podIP}:8080{"\n"}{end}' >"$work/targets"
wat2wasm "$SKERRY_TOP/tests/e2e/testdata/environment.wat" -o "$work/environment.wasm"
"$SKERRY" image add "$work/environment.wasm" registry.example.com/environment:1 --data-dir "$CLUSTER_DIR/data" >&2
k apply -f - >&2 <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: shown}
spec:
  runtimeClassName: wasmedge
  containers:
  - name: main
    image: registry.example.com/environment:1
    ports: [{containerPort: 8080}]
    env: [{name: one, valueFrom: {secretKeyRef: {name: password, key: word}}}]
    envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: password}}]
YAML
k wait --for=condition=Ready pod/shown --timeout=60s >&2
shown=$(k get pod shown -o jsonpath='{.status.podIP}'):8080
has_values

test_case "a sandbox is killed under load: that container was restarted once, and it stays known"
load_start 8
sleep 2
victim=$(busy_sandbox)
[ -n "$victim" ] || fail "no sandbox is at work: $(line_node_pids | xargs ps -o pid,comm,args -p)"
kill -KILL "$victim"
load_end
wait_until 30 restarts_are 1 || fail "$(restarts) restarts are told instead of 1; the load: $(cat "$work/load")"
identities >"$work/before"
expect $pods "$(wc -l <"$work/before")"
sleep 6 # what the watches told is on the disk

test_case "cut off: pods serve, wake, restart; the server counts them as ready, because the node is autonomous"
load_start 75
line_cut
wait_until 60 disconnected || fail "the node did not notice that the line is cut"
kill -KILL "$(keeper_pid)"
sleep 2
line_kill_node
line_start_node
wait_until 30 node_unknown || fail "the server did not notice the silence: $(k get nodes)"
wait_until 10 told_autonomous || fail "the server says nowhere that the silent node is autonomous"
load_end
expect 0 "$failures"
answers_cold
name_is edge-service.default.svc.cluster.local "$service" || fail "the Service's name is not answered while the line is cut"
running $pods || fail "pods of the silent node are not ready, or are to go: $(k get pods -l app=edge-service)"
expect $pods "$(ready_endpoints)"

test_case "the line returns: nothing was restarted"
line_mend
wait_until 60 connected || fail "the node did not come back"
wait_until 30 node_is_ready || fail "$(k get nodes)"
same_pods
no_drift

test_case "a power cut without network: all pods serve again at their addresses"
line_cut
started=$(now_ms)
line_power_cut
started=$(now_ms)
line_start_node
wait_until 20 all_ready || fail "$(node_metric skerry_agent_pods_ready) of $pods pods are ready; log: $CLUSTER_LOG"
answers_cold
say "   all $pods pods answer $(($(now_ms) - started)) ms after the start of the process"
on_node curl -sS --fail --max-time 5 --data-binary @"$SKERRY_TOP/guest/examples/edge-service/readings.json" "http://$service/" >"$work/answer" || fail "the Service does not answer after the boot"
name_is edge-service.default.svc.cluster.local "$service" || fail "names are not answered after the boot"
limit_holds || fail "no sandbox that was woken after the boot has its pod's memory limit of 512 Mi: $(slots_with_processes)"
has_values
identities_here | diff "$work/before" - >"$work/diff" || fail "pods are not what they were after the boot (name, uid, address, container, restarts): $(head -n 12 "$work/diff")"

test_case "the Secret that the pods have again came from the disk, where it is not in clear"
for text in hunter2 "$(printf hunter2 | base64)"; do
  ! grep -raqF "$text" "$CLUSTER_DIR/data/node" || fail "'$text' is in $(grep -ralF "$text" "$CLUSTER_DIR/data/node" | tr '\n' ' ')"
done
grep -aqF '"level":"high"' "$CLUSTER_DIR"/data/node/agent.db* || fail "the ConfigMap is not found in the same way, so the search says nothing"

test_case "what was done meanwhile is carried out on return; the rest is as it was"
lists=$(lists_of_nodes)
gone=$(awk '$5 == 0 { print $1; exit }' "$work/before")
k delete pod "$gone" --wait=false >&2
k scale deployment/edge-service --replicas=$((pods + 2)) >&2
line_mend
wait_until 60 connected || fail "the node did not come back"
wait_until 60 running $((pods + 2)) || fail "$(k get pods | grep -v Running | head -n 5)"
wait_until 30 pod_count $((pods + 2)) || fail "$(k get pods -o name | wc -l) pods"
grep -v "^$gone" "$work/before" >"$work/stay"
identities | grep -xFf "$work/stay" | diff "$work/stay" - >"$work/diff" || fail "pods that stayed are not what they were: $(head -n 6 "$work/diff")"
expect "$lists" "$(lists_of_nodes)"
no_drift

test_case "the server is restored from an older backup: the node follows it, and what both know is not restarted"
pods=$((pods + 2))
identities >"$work/before"
line_kill_server
cp -a "$CLUSTER_DIR/data/server" "$work/backup"
line_start_server
k create configmap later --from-literal=a=1 >&2
k scale deployment/edge-service --replicas=$((pods + 1)) >&2
wait_until 60 running $((pods + 1)) || fail "$(k get pods | grep -v Running | head -n 5)"
line_kill_server
rm -rf "$CLUSTER_DIR/data/server"
mv "$work/backup" "$CLUSTER_DIR/data/server"
line_start_server
wait_until 90 connected || fail "the node did not come back"
expect "" "$(k get configmap later --ignore-not-found -o name)"
wait_until 60 running $pods || fail "$(k get pods | grep -v Running | head -n 5)"
wait_until 60 all_ready $pods || fail "the node has $(node_metric skerry_agent_pods_ready) pods instead of $pods"
same_pods

# Where the server is behind what the node has read, it says so (410), and the node lists. Here it has passed that, by another history: the watches are
# resumed, and only the digests know better. One pod is known to the node alone, one was ended by it and is there again.
test_case "the restored server has passed what the node had read: the node follows it, and what both know is not restarted"
identities >"$work/before"
line_kill_server
cp -a "$CLUSTER_DIR/data/server" "$work/backup"
line_start_server
lost=$(awk '$5 == 0 { print $1; exit }' "$work/before")
k delete pod "$lost" --wait=false >&2
k scale deployment/edge-service --replicas=$((pods + 1)) >&2
wait_until 90 all_ready $((pods + 1)) || fail "the node has $(node_metric skerry_agent_pods_ready) pods instead of $((pods + 1))"
wait_until 30 pod_count $((pods + 1)) || fail "$(k get pods | grep -v Running | head -n 5)"
read=$(revision)
line_cut
line_kill_server
rm -rf "$CLUSTER_DIR/data/server"
mv "$work/backup" "$CLUSTER_DIR/data/server"
line_start_server
push_past "$read"
drift=$(node_metric skerry_agent_drift_total) refused=$(too_old)
line_mend
wait_until 90 all_ready $pods || fail "the node has $(node_metric skerry_agent_pods_ready) pods instead of $pods"
wait_until 60 told_as_here "$lost" || fail "of $lost the server shows '$(identities | grep "^$lost")', the node has '$(identities_here | grep "^$lost")'"
expect "$(awk -v pod="$lost" '$1 == pod { print $2 }' "$work/before")" "$(identities_here | awk -v pod="$lost" '$1 == pod { print $2 }')"
same_pods "$lost"
say "   found by $(($(node_metric skerry_agent_drift_total) - drift)) digests that differed, and $(($(too_old) - refused)) watches that were refused"
[ "$(node_metric skerry_agent_drift_total)" -gt "$drift" ] || [ "$(too_old)" -gt "$refused" ] || fail "neither a digest nor a refused watch has told the node that the server is another"
no_drift "$(node_metric skerry_agent_drift_total)"

passed
