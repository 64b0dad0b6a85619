#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: kill -9 of any one process loses nothing that was acknowledged and fails only the requests inside a killed sandbox.
# Method: `skerry up` under a steady load; each process is killed in its turn, during load and during a rollout.
#                                                                               tests/e2e/faults.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:?the build folder}" && pwd)
load=$build/bin/skerry-bench-load
finish() {
  local rc=$?
  stop_cluster || rc=1
  exit $rc
}
trap finish EXIT

# pid_of WORD : the cluster's process that is skerry WORD or skerry-sandbox WORD.
pid_of() {
  local pid
  for pid in $(cluster_pids); do
    case $(process_name "$pid") in "skerry $1" | "skerry-sandbox $1") echo "$pid" && return ;; esac
  done
  return 1
}
killed=
kill_9() {
  killed=$(pid_of "$1") || fail "there is no process 'skerry $1': $(cluster_pids | xargs ps -o pid,args -p)"
  kill -KILL "$killed"
}
another() { local pid; pid=$(pid_of "$1") && [ "$pid" != "$killed" ]; }
answers() { curl -sSf --max-time 5 -o /dev/null "http://$1/"; }
api_answers() { k get --raw /readyz; }
pods_ready() { [ "$(k get deployment edge-service -o jsonpath='{.status.readyReplicas}')" = "$1" ]; }
pods_left() { [ "$(k get pods -l app=edge-service --field-selector status.phase=Running -o name | wc -l)" = "$1" ]; }
uids() { k get pods -l app=edge-service -o jsonpath='{range .items[*]}{.metadata.uid}{" "}{.status.podIP}{" "}{.status.containerStatuses[0].restartCount}{"\n"}{end}' | sort; }

start_cluster "$build"
work=$CLUSTER_DIR
"$SKERRY" image add "$build/guest/edge-service.wasm" registry.example.com/edge-service:latest --data-dir "$CLUSTER_DIR/data"
cp -r "$SKERRY_TOP/deploy/examples/edge-service" "$work/manifests"
sed -i 's/replicas: 100/replicas: 20/' "$work/manifests/deployment.yaml"
k label "$CLUSTER_NODE" node-type=edge
k apply -f "$work/manifests"
k rollout status deployment/edge-service --timeout=60s
address=$(k get service edge-service -o jsonpath='{.spec.clusterIP}')
mapfile -t targets < <(k get pods -l app=edge-service -o jsonpath='{range .items[*]}{.status.podIP}:8080{"\n"}{end}')
uids >"$work/before"

# under_load COMMAND… : runs it one second into a load of six, over the Service; sets failures.
under_load() {
  local loader
  "$load" "$address:80" --mode open --rate 200 --connections 40 --seconds 6 --errors-max 1000000 >"$work/load" 2>/dev/null &
  loader=$!
  sleep 1
  "$@"
  wait "$loader"
  failures=$(jq .errors "$work/load")
}

test_case "kill -9 of the server: requests go on, objects are kept"
k create configmap kept --from-literal=a=1
under_load kill_9 server
expect 0 "$failures"
wait_until 30 api_answers || fail "the API did not come back within 30 s; log: $CLUSTER_LOG"
expect 1 "$(k get configmap kept -o jsonpath='{.data.a}')"
uids | diff "$work/before" - || fail "the pods changed"

test_case "kill -9 of the agent: requests go on, idle pods wake meanwhile, and are adopted as they were"
under_load kill_9 node
expect 0 "$failures"
wait_until 30 another node || fail "the agent did not come back"
kill_9 node
for target in "${targets[@]}"; do answers "$target" || fail "$target did not answer while the agent was dead"; done
wait_until 30 node_is_ready || fail "the node did not become Ready again"
wait_until 30 pods_ready 20 || fail "$(k get deployment edge-service)"
uids | diff "$work/before" - || fail "the pods were not adopted as they were"

test_case "kill -9 of the keeper: awake pods serve on; the next keeper wakes the idle ones"
answers "${targets[0]}"
under_load kill_9 keeper
wait_until 30 another keeper || fail "no other keeper was started"
for target in "${targets[@]}"; do wait_until 10 answers "$target" || fail "$target does not answer after the keeper's death"; done
uids | diff "$work/before" - || fail "the pods changed"

test_case "kill -9 of a template: the next wake-up has another one"
under_load kill_9 template
expect 0 "$failures"
for target in "${targets[@]}"; do wait_until 10 answers "$target" || fail "$target does not answer after the template's death"; done

test_case "kill -9 of the server and the agent during a rollout"
k rollout restart deployment/edge-service
kill_9 server
kill_9 node
wait_until 30 api_answers || fail "the API did not come back"
k rollout status deployment/edge-service --timeout=120s || fail "the rollout did not end"
wait_until 60 pods_ready 20 || fail "$(k get deployment edge-service)"
# Old pods serve on for a moment while they leave; then they are gone.
wait_until 60 pods_left 20 || fail "there are pods too many or too few: $(k get pods -l app=edge-service)"
answers "$address:80"

passed
