#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: kill -9 of any one process loses nothing that was acknowledged and fails only the requests inside a killed sandbox.
# Method: `skerry up` under a steady load; each process is killed in its turn, during load, during writes and during a
# rollout. What was lost is counted twice, by the load generator and by the node's metrics, and must agree.
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
answers() { [ "$(curl -sS --max-time 5 -o "$work/answer" -w '%{http_code}' "http://$1/")" = 200 ]; }
said() { head -c 300 "$work/answer" 2>/dev/null || true; }
api_answers() { k get --raw /readyz; }
pods_ready() { [ "$(k get deployment edge-service -o jsonpath='{.status.readyReplicas}')" = "$1" ]; }
pods_left() { [ "$(k get pods -l app=edge-service --field-selector status.phase=Running -o name | wc -l)" = "$1" ]; }
# sandboxes : the processes that serve a pod now: slots that hold more sockets than the one to their keeper.
sandboxes() {
  local pid
  for pid in $(cluster_pids); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = skerry-slot ] || continue
    [ "$(find "/proc/$pid/fd" -lname 'socket:*' 2>/dev/null | wc -l)" -lt 2 ] || echo "$pid"
  done
}
kill_sandboxes() { # HOW MANY
  local some
  some=$(sandboxes | sed -n "1,$1p")
  [ "$(wc -w <<<"$some")" -ge 1 ] || fail "no sandbox runs: $(cluster_pids | xargs ps -o pid,comm,args -p)"
  # shellcheck disable=SC2086
  kill -KILL $some
}
# agent_lost requests|connections
agent_lost() { node_get /metrics | awk -v name="skerry_agent_$1_lost_total" '$1 == name { print $2 }'; }
# Each failure is a request inside a sandbox that died, or one that lay unread in a connection to it.
losses_explain() {
  local requests connections
  requests=$(($(agent_lost requests) - requests_before)) connections=$(($(agent_lost connections) - connections_before))
  counted="$requests requests and $connections connections counted as lost"
  [ "$requests" -le "$1" ] && [ "$1" -le "$connections" ]
}
lost() { node_get /metrics | awk '/^skerry_container_requests_lost_total/ { sum += $NF } END { print sum + 0 }'; }
restarts() { k get pods -l "app=$1" -o jsonpath='{range .items[*]}{.status.containerStatuses[0].restartCount}{"\n"}{end}' | awk '{ sum += $1 } END { print sum + 0 }'; }
uids() { k get pods -l app=edge-service -o jsonpath='{range .items[*]}{.metadata.uid}{" "}{.status.podIP}{" "}{.status.containerStatuses[0].restartCount}{"\n"}{end}' | sort; }

nobody_awake() { [ -z "$(sandboxes)" ]; }
somebody_awake() { [ -n "$(sandboxes)" ]; }
# Requests that a guest is at work on now.
in_flight() {
  node_get /metrics | awk '/^skerry_container_requests_started_total/ { sum += $NF } /^skerry_container_requests_finished_total/ { sum -= $NF } END { print sum + 0 }'
}
in_flight_are() { [ "$(in_flight)" = "$1" ]; }
lost_are() { [ $(($(lost) - lost_before)) = "$1" ]; }
restarted() { [ "$(restarts "$1")" = "$2" ]; }

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

# under_load COMMAND… : runs it one second into a load of six (load_seconds), over the Service (load_on); sets failures.
load_seconds=6 load_on=("$address:80")
under_load() {
  local loader
  "$load" "${load_on[@]}" --mode open --rate 200 --connections 40 --seconds "$load_seconds" --errors-max 1000000 >"$work/load" 2>/dev/null &
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
for target in "${targets[@]}"; do answers "$target" || fail "$target did not answer while the agent was dead: $(said)"; done
wait_until 30 node_is_ready || fail "the node did not become Ready again"
wait_until 30 pods_ready 20 || fail "$(k get deployment edge-service)"
uids | diff "$work/before" - || fail "the pods were not adopted as they were"

test_case "kill -9 of the keeper: awake pods serve on; the next keeper wakes the idle ones"
answers "${targets[0]}"
under_load kill_9 keeper
expect 0 "$failures"
wait_until 30 another keeper || fail "no other keeper was started"
for target in "${targets[@]}"; do wait_until 10 answers "$target" || fail "$target does not answer after the keeper's death: $(said)"; done
uids | diff "$work/before" - || fail "the pods changed"

# Goal: what nobody but sandboxes holds any more is not lost. Method: the load goes to five pods, which are awake by then; agent and
# keeper are killed at once. (Idle pods have no process: their listeners go with the two, and come again with the next agent.)
test_case "kill -9 of the agent and the keeper at once: awake pods serve on and are taken back"
kill_agent_and_keeper() {
  kill -KILL "$(pid_of node)" "$(pid_of keeper)"
  wait_until 30 pid_of keeper || fail "no other keeper was started"
}
load_seconds=12 load_on=("${targets[@]:0:5}")
under_load kill_agent_and_keeper
load_seconds=6 load_on=("$address:80")
expect 0 "$failures"
wait_until 30 node_is_ready || fail "the node did not become Ready again"
wait_until 30 pods_ready 20 || fail "$(k get deployment edge-service)"
expect 0 "$(agent_lost requests)"
expect 0 "$(agent_lost connections)"
for target in "${targets[@]}"; do wait_until 20 answers "$target" || fail "$target does not answer after the death of agent and keeper: $(said)"; done
uids | diff "$work/before" - || fail "the pods changed"

test_case "kill -9 of a template: the next wake-up has another one"
under_load kill_9 template
expect 0 "$failures"
for target in "${targets[@]}"; do wait_until 10 answers "$target" || fail "$target does not answer after the template's death: $(said)"; done

test_case "kill -9 of the server during writes: what it acknowledged is there afterwards"
write_objects() { # until the file `enough` appears; notes each name that the server took
  local n=0
  while [ ! -e "$work/enough" ]; do
    n=$((n + 1))
    [ "$(curl -sk --max-time 2 -o /dev/null -w '%{http_code}' --cert "$CLUSTER_DIR/admin.certificate" --key "$CLUSTER_DIR/admin.key" -H 'Content-Type: application/json' \
      -d "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"written-$n\"},\"data\":{\"n\":\"$n\"}}" \
      "https://$CLUSTER_API/api/v1/namespaces/default/configmaps" || true)" = 201 ] && echo "written-$n $n" >>"$work/acknowledged"
  done
}
write_objects &
writer=$!
for _ in 1 2 3; do
  sleep 1
  kill_9 server
  wait_until 30 another server || fail "the server was not started again"
  wait_until 30 api_answers || fail "the API did not come back within 30 s"
done
sleep 1
touch "$work/enough"
wait "$writer" || true
k get configmaps -o jsonpath='{range .items[*]}{.metadata.name}{" "}{.data.n}{"\n"}{end}' | grep '^written-' | sort >"$work/kept"
[ "$(wc -l <"$work/acknowledged")" -gt 20 ] || fail "only $(wc -l <"$work/acknowledged") objects were written"
sort "$work/acknowledged" | comm -23 - "$work/kept" >"$work/missing"
[ ! -s "$work/missing" ] || fail "acknowledged and lost: $(tr '\n' ' ' <"$work/missing")"

# Goal: only requests inside a killed sandbox fail, and each is counted. Method: eight pods whose requests take long, so that
# each sandbox has one request inside, one connection to each; five of them are killed at once. Meanwhile other pods are called.
test_case "kill -9 of sandboxes: what was inside fails and is counted, nothing else"
wat2wasm "$SKERRY_TOP/tests/integration/testdata/logger.wat" -o "$work/slow.wasm"
"$SKERRY" image add "$work/slow.wasm" registry.example.com/slow:1 --data-dir "$CLUSTER_DIR/data"
k apply -f - <<'END'
apiVersion: apps/v1
kind: Deployment
metadata: { name: slow }
spec:
  replicas: 8
  selector: { matchLabels: { app: slow } }
  template:
    metadata: { labels: { app: slow } }
    spec: { containers: [{ name: app, image: "registry.example.com/slow:1" }] }
END
k rollout status deployment/slow --timeout=60s
mapfile -t slow < <(k get pods -l app=slow -o jsonpath='{range .items[*]}{.status.podIP}:8080{"\n"}{end}')
wait_until 60 nobody_awake || fail "the pods of the earlier cases did not fall idle"
lost_before=$(lost)
"$load" "${slow[@]}" --mode closed --connections 8 --seconds 10 --path /spin --timeout 60000 --errors-max 1000000 >"$work/slow-load" 2>/dev/null &
loader=$!
wait_until 20 in_flight_are 8 || fail "$(in_flight) requests are being answered, not 8; sandboxes: $(sandboxes)"
victims=$(sandboxes | sed -n 1,5p)
# shellcheck disable=SC2086
under_load kill -KILL $victims
expect 0 "$failures"
wait "$loader"
say "   lost: $(jq -c '{requests, errors, first_error}' "$work/slow-load")"
expect 5 "$(jq .errors "$work/slow-load")"
wait_until 10 lost_are 5 || fail "the node counts $(($(lost) - lost_before)) lost requests instead of 5"
wait_until 20 restarted slow 5 || fail "restarts: $(restarts slow) instead of 5"
for target in "${slow[@]}"; do answers "$target" || fail "$target does not answer after its sandbox's death: $(said)"; done
k delete deployment slow

test_case "kill -9 of the keeper, a template and sandboxes during a rollout"
break_rollout() {
  k rollout restart deployment/edge-service
  wait_until 10 somebody_awake || fail "no sandbox runs under load"
  kill_sandboxes 2
  kill_9 template
  kill_9 keeper
}
requests_before=$(agent_lost requests) connections_before=$(agent_lost connections)
under_load break_rollout
wait_until 10 losses_explain "$failures" || fail "$failures requests failed; $counted: $(jq -c . "$work/load")"
say "   $failures of 1200 requests failed; $counted"
k rollout status deployment/edge-service --timeout=120s || fail "the rollout did not end"
wait_until 60 pods_ready 20 || fail "$(k get deployment edge-service)"
wait_until 60 pods_left 20 || fail "there are pods too many or too few: $(k get pods -l app=edge-service)"
wait_until 10 answers "$address:80" || fail "the Service does not answer"

test_case "kill -9 of the server and the agent during a rollout: no request fails"
kill_server_and_agent() {
  k rollout restart deployment/edge-service
  wait_until 10 somebody_awake || fail "no sandbox runs under load"
  kill_9 server
  kill_9 node
}
load_seconds=20
under_load kill_server_and_agent
say "   $failures of $((200 * load_seconds)) requests failed: $(jq -c . "$work/load")"
expect 0 "$failures"
wait_until 30 api_answers || fail "the API did not come back"
k rollout status deployment/edge-service --timeout=120s || fail "the rollout did not end"
wait_until 60 pods_ready 20 || fail "$(k get deployment edge-service)"
# Old pods serve on for a moment while they leave; then they are gone.
wait_until 60 pods_left 20 || fail "there are pods too many or too few: $(k get pods -l app=edge-service)"
answers "$address:80"

passed
