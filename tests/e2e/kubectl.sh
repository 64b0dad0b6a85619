#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: the kubectl commands that we serve work unmodified, and what we do not serve is refused with a reason.
# Method: a stock kubectl against `skerry up`, with a small Deployment of the example service.
#                                                                               tests/e2e/kubectl.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:?the build folder}" && pwd)
examples=$SKERRY_TOP/deploy/examples/edge-service
finish() {
  local rc=$?
  stop_cluster || rc=1
  exit $rc
}
trap finish EXIT
expect_events() { k get events | grep "$1" >/dev/null; }
pods_are() { [ "$(k get pods -l app=edge-service -o name | wc -l)" = "$1" ]; }
# waits_with POD REASON : its container waits for that reason and says something about it.
waits_with() { k get pod "$1" -o json | jq -e --arg r "$2" '.status.containerStatuses[0].state.waiting | .reason == $r and (.message | length > 10)'; }
# No pipe into head: kubectl would die of it.
first_pod() { k get pods -l app=edge-service -o jsonpath='pod/{.items[0].metadata.name}'; }
no_replicasets() { [ -z "$(k get replicasets -o name)" ]; }
start_cluster "$build"
work=$CLUSTER_DIR
node=${CLUSTER_NODE#node/}

test_case "image add and ls"
"$SKERRY" image add "$build/guest/edge-service.wasm" registry.example.com/edge-service:latest --data-dir "$CLUSTER_DIR/data"
expect_text 'registry.example.com/edge-service:latest' "$("$SKERRY" image ls --data-dir "$CLUSTER_DIR/data")"

test_case "discovery: version, api-resources, api-versions, explain"
expect_text 'Server Version: v1\.' "$(k version)"
resources=$(k api-resources)
for kind in Namespace Node Pod Service EndpointSlice ConfigMap Secret ServiceAccount Event Lease RuntimeClass Deployment ReplicaSet; do
  expect_text " $kind\$" "$resources"
done
expect_text '^deployments +deploy +apps/v1 +true +Deployment' "$resources"
expect_text '^apps/v1$' "$(k api-versions)"

test_case "a pod that no node fits waits, and says why"
cp -r "$examples" "$work/manifests"
sed -i 's/replicas: 100/replicas: 3/' "$work/manifests/deployment.yaml"
k apply -f "$work/manifests"
wait_until 20 expect_events 'FailedScheduling' || fail "no event FailedScheduling: $(k get events)"

test_case "label the node; rollout status"
k label "$CLUSTER_NODE" node-type=edge
k rollout status deployment/edge-service --timeout=60s
expect 3 "$(k get deployment edge-service -o jsonpath='{.status.readyReplicas}')"

test_case "apply again changes nothing"
again=$(k apply -f "$work/manifests")
expect 4 "$(grep -c unchanged <<<"$again")"
if grep -v unchanged <<<"$again"; then fail "apply changed what was the same"; fi

test_case "get in every output"
expect_text '^NAME +READY +UP-TO-DATE +AVAILABLE +AGE' "$(k get deployment)"
expect_text '^edge-service-[a-z0-9]+-[a-z0-9]+ +1/1 +Running +0 ' "$(k get pods)"
expect_text "10\.[0-9.]+ +$node " "$(k get pods -o wide)"
expect 3 "$(k get pods -o json | jq '.items | length')"
expect_text '^kind: Deployment' "$(k get deployment edge-service -o yaml)"
expect 3 "$(k get pods -o name | wc -l)"
expect 3 "$(k get pods -o custom-columns=IP:.status.podIP --no-headers | grep -c '^10\.')"
expect "Running Running Running" "$(k get pods -o jsonpath='{.items[*].status.phase}')"
expect "edge-service" "$(k get deployment edge-service -o go-template='{{.metadata.name}}')"
expect 3 "$(k get pods -l app=edge-service -o name | wc -l)"
expect 0 "$(k get pods -l 'app notin (edge-service)' -o name 2>/dev/null | wc -l)"
expect_text '^NAMESPACE +NAME' "$(k get pods -A)"
expect 3 "$(k get pods --field-selector status.phase=Running -o name | wc -l)"
for namespace in default kube-system kube-public kube-node-lease; do k get namespace "$namespace" -o name; done
expect_text '^edge-config +3 ' "$(k get configmap edge-config)"
expect_text "$node +Ready" "$(k get nodes)"
k get all,endpointslices,leases,runtimeclasses,secrets,serviceaccounts >/dev/null

test_case "get -w sees a change"
k get configmap edge-config -o jsonpath='{.metadata.labels.seen}{"\n"}' -w >"$work/watch" 2>&1 &
watcher=$!
wait_until 10 test -s "$work/watch" || fail "the watch showed nothing"
k label configmap edge-config seen=yes
wait_until 10 grep -q yes "$work/watch" || fail "the watch did not show the label"
kill "$watcher"
wait "$watcher" 2>/dev/null || true

test_case "describe"
description=$(k describe "$CLUSTER_NODE")
expect_text 'Capacity:' "$description"
expect_text 'Allocatable:' "$description"
expect_text 'skerry.dev/overcommit' "$description"
pod=$(first_pod)
expect_text 'Node: +'"$node" "$(k describe "$pod")"
expect_text 'Scheduled' "$(k describe "$pod")"
expect_text 'Replicas: +3 desired' "$(k describe deployment edge-service)"
expect_text 'Endpoints: +10\.' "$(k describe service edge-service)"

test_case "label, annotate, patch, edit by replace"
k annotate deployment edge-service example.com/owner=team-a
expect team-a "$(k get deployment edge-service -o jsonpath='{.metadata.annotations.example\.com/owner}')"
k annotate deployment edge-service example.com/owner-
k patch configmap edge-config --type merge -p '{"data":{"sync_interval":"30s"}}'
k patch configmap edge-config --type json -p '[{"op":"replace","path":"/data/sync_interval","value":"45s"}]'
expect 45s "$(k get configmap edge-config -o jsonpath='{.data.sync_interval}')"
k get configmap edge-config -o yaml | sed 's/45s/50s/' | k replace -f -
expect 50s "$(k get configmap edge-config -o jsonpath='{.data.sync_interval}')"

test_case "the Service answers, from the host, and on every pod"
address=$(k get service edge-service -o jsonpath='{.spec.clusterIP}')
curl -sSf --max-time 5 -o /dev/null "http://$address/"
for ip in $(k get pods -l app=edge-service -o jsonpath='{.items[*].status.podIP}'); do curl -sSf --max-time 5 -o /dev/null "http://$ip:8080/"; done

test_case "scale"
k scale deployment/edge-service --replicas=5
k rollout status deployment/edge-service --timeout=60s
expect 5 "$(k get pods -l app=edge-service -o name | wc -l)"
k scale deployment/edge-service --replicas=2
wait_until 30 pods_are 2 || fail "there are $(k get pods -o name | wc -l) pods instead of 2"

test_case "rollout restart, and no request fails meanwhile"
before=$(k get pods -l app=edge-service -o name | sort)
"$build/bin/skerry-bench-load" "$address:80" --mode open --rate 100 --connections 20 --seconds 6 >"$work/load" 2>"$work/load.error" &
loader=$!
k rollout restart deployment/edge-service
k rollout status deployment/edge-service --timeout=60s
wait "$loader" || fail "requests failed during the rollout: $(cat "$work/load.error")"
wait_until 30 pods_are 2 || fail "the old pods did not go"
[ "$before" != "$(k get pods -l app=edge-service -o name | sort)" ] || fail "the restart left the old pods"
expect_text '^2' "$(k rollout history deployment/edge-service)"

test_case "rollout: change cause, pause, resume, undo"
k annotate deployment edge-service kubernetes.io/change-cause=second
sees_cause() { k rollout history deployment/edge-service | grep second >/dev/null; }
wait_until 10 sees_cause || fail "the history shows no change cause: $(k rollout history deployment/edge-service)"
k rollout pause deployment/edge-service
k set env deployment/edge-service EXTRA=1
expect 2 "$(k rollout history deployment/edge-service | grep -c '^[0-9]')"
k rollout resume deployment/edge-service
k rollout status deployment/edge-service --timeout=60s
expect_text 'EXTRA' "$(k rollout history deployment/edge-service --revision=3)"
k rollout undo deployment/edge-service
k rollout status deployment/edge-service --timeout=60s
expect "" "$(k get deployment edge-service -o jsonpath='{.spec.template.spec.containers[0].env[?(@.name=="EXTRA")].value}')"

test_case "cordon, drain, uncordon"
k cordon "$node"
expect_text 'SchedulingDisabled' "$(k get nodes)"
k drain "$node" --timeout=60s --ignore-daemonsets --force
k uncordon "$node"
k rollout status deployment/edge-service --timeout=60s

test_case "the server's figures"
figures=$(k get --raw /metrics)
for name in apiserver_request_total apiserver_request_duration_seconds_bucket apiserver_longrunning_requests skerry_store_commits_total \
  workqueue_depth scheduler_schedule_attempts_total process_resident_memory_bytes; do
  expect_text "^$name" "$figures"
done

test_case "logs"
k create configmap from-literal --from-literal=a=b
cat >"$work/talker.wat" <<'WAT'
(module
  (import "http_handler" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "somebody called")
  (func (export "handle_request") (result i64) (call $log (i32.const 0) (i32.const 0) (i32.const 15)) (i64.const 0))
  (func (export "handle_response") (param i32 i32)))
WAT
wat2wasm "$work/talker.wat" -o "$work/talker.wasm"
"$SKERRY" image add "$work/talker.wasm" registry.example.com/talker:1 --data-dir "$CLUSTER_DIR/data" >/dev/null
k run talker --image=registry.example.com/talker:1 --overrides='{"spec":{"runtimeClassName":"wasmedge"}}'
k wait --for=condition=Ready pod/talker --timeout=60s
call_talker() { curl -sSf --max-time 5 -o /dev/null "http://$(k get pod talker -o jsonpath='{.status.podIP}'):8080/"; }
talked() { [ "$(grep -c 'somebody called' "$1")" -ge "$2" ]; }
call_talker
k logs talker >"$work/log"
talked "$work/log" 1 || fail "kubectl logs says: $(cat "$work/log")"
kubectl --kubeconfig "$CLUSTER_DIR/data/admin.kubeconfig" --cache-dir "$CLUSTER_DIR/kube-cache" logs -f talker >"$work/followed" &
follower=$!
wait_until 10 talked "$work/followed" 1 || fail "kubectl logs -f does not show what was there"
call_talker
wait_until 10 talked "$work/followed" 2 || fail "kubectl logs -f does not follow: $(cat "$work/followed")"
stop_pid "$follower" 10
k delete pod talker --grace-period=1 >/dev/null

test_case "create, wait, delete, namespaces"
k create namespace one
k create -n one configmap c --from-literal=x=y
k run -n one solo --image=registry.example.com/edge-service:latest --image-pull-policy=IfNotPresent --port=8080 \
  --overrides='{"spec":{"runtimeClassName":"wasmedge"}}'
k wait -n one --for=condition=Ready pod/solo --timeout=30s
k delete -n one pod solo --timeout=30s
k delete namespace one --timeout=60s
if k get namespace one 2>"$work/error"; then fail "the namespace is still there"; fi
expect_match 'NotFound' "$work/error"

test_case "errors are Kubernetes' own"
if k get pod nobody 2>"$work/error"; then fail "found a pod that does not exist"; fi
expect_match 'Error from server \(NotFound\): pods "nobody" not found' "$work/error"
if k create configmap edge-config 2>"$work/error"; then fail "created it twice"; fi
expect_match 'configmaps "edge-config" already exists' "$work/error"
if sed 's/replicas: 3/replicas: -1/' "$work/manifests/deployment.yaml" | k apply -f - 2>"$work/error"; then fail "took -1 replicas"; fi
expect_match 'spec.replicas' "$work/error"
if sed 's/replicas: 3/replicsa: 3/' "$work/manifests/deployment.yaml" | k apply -f - 2>"$work/error"; then fail "took an unknown field"; fi
expect_match 'unknown field "spec.replicsa"' "$work/error"

test_case "events"
expect_text 'ScalingReplicaSet' "$(k events)"
expect_text 'Scheduled' "$(k get events -A)"

test_case "what is not served is refused, with a sentence"
k run volumes --image=registry.example.com/edge-service:latest --image-pull-policy=IfNotPresent --overrides='{"spec":{"runtimeClassName":"wasmedge",
  "containers":[{"name":"volumes","image":"registry.example.com/edge-service:latest","volumeMounts":[{"name":"v","mountPath":"/v"}]}],
  "volumes":[{"name":"v","emptyDir":{}}]}}'
wait_until 20 waits_with volumes Unsupported || fail "the pod with a volume shows: $(k get pod volumes -o json | jq -c .status)"
k delete pod volumes --timeout=30s
k run missing --image=registry.example.com/nobody:1 --image-pull-policy=Never --overrides='{"spec":{"runtimeClassName":"wasmedge"}}'
wait_until 20 waits_with missing ErrImageNeverPull || fail "the pod without an image shows: $(k get pod missing -o json | jq -c .status)"
k delete pod missing --timeout=30s
pod=$(first_pod)
if k exec "$pod" -- ls 2>"$work/error"; then fail "exec did something"; fi
expect_match 'exec, attach and port-forward are not served yet' "$work/error"
sed 's/runtimeClassName: wasmedge/runtimeClassName: nobody/; s/name: edge-service/name: classless/; s/app: edge-service/app: classless/' "$work/manifests/deployment.yaml" | k apply -f -
expect_failed_create() {
  k describe deployment classless | grep ReplicaFailure >/dev/null && k get events | grep 'FailedCreate.*RuntimeClass "nobody" not found' >/dev/null
}
wait_until 20 expect_failed_create || fail "nothing says why the pods are missing: $(k describe deployment classless; k get events)"
k delete deployment classless
if k get clusterroles 2>"$work/error"; then fail "RBAC objects are there"; fi
if k apply --server-side -f "$work/manifests/configmap.yaml" 2>"$work/error"; then fail "server-side apply did something"; fi
[ -s "$work/error" ] || fail "server-side apply failed without a word"

test_case "without a certificate: 401"
expect 401 "$(curl -sk --max-time 5 -o "$work/body" -w '%{http_code}' "https://$CLUSTER_API/api/v1/pods")"
expect Unauthorized "$(jq -r .reason "$work/body")"
expect 401 "$(curl -sk --max-time 5 -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer nonsense' "https://$CLUSTER_API/api/v1/pods")"
expect 401 "$(curl -sk --max-time 5 -o /dev/null -w '%{http_code}' "https://$CLUSTER_NODE_API/containerLogs/default/x/y")"

test_case "delete"
k delete -f "$work/manifests" --timeout=60s
wait_until 30 pods_are 0 || fail "pods outlived their Deployment"
wait_until 10 no_replicasets || fail "the ReplicaSets were not collected"

passed
