# SPDX-License-Identifier: Apache-2.0
# One function a figure: figure_NAME (with _ for -). Each measures and calls `row`. Sourced by scripts/bench.
# shellcheck shell=bash disable=SC2034

# --- small tools ---
# median : of the numbers on stdin.
median() { sort -n | awk '{ v[NR] = $1 } END { if (NR == 0) print 0; else if (NR % 2) print v[(NR + 1) / 2]; else print (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
# percentile P : of the numbers on stdin, nearest rank.
percentile() { sort -n | awk -v p="$1" '{ v[NR] = $1 } END { i = int(p * NR) + 1; if (i > NR) i = NR; print NR ? v[i] : 0 }'; }
calc() { awk "BEGIN { printf \"%.6g\", $1 }"; }
get() { jq -r ".$2" <<<"$1"; }
# cpu_us PID… : CPU time that the processes have used so far, all threads.
cpu_us() {
  local pid
  for pid in "$@"; do cat "/proc/$pid/task/"*/schedstat 2>/dev/null || true; done | awk '{ sum += $1 } END { printf "%.0f", sum / 1000 }'
}
load() { "$BENCH_BUILD/bin/skerry-bench-load" "$@"; }

# --- pods to measure ---
# deployment NAME REPLICAS IMAGE [ANNOTATION: VALUE]… : small pods with the limits of the example.
deployment() {
  local name=$1 replicas=$2 image=$3 annotation
  shift 3
  cat <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: $name}
spec:
  replicas: $replicas
  selector: {matchLabels: {app: $name}}
  template:
    metadata:
      labels: {app: $name}
      annotations:
        example.com/purpose: bench
$(for annotation in "$@"; do printf '        %s: "%s"\n' "${annotation%%: *}" "${annotation#*: }"; done)
    spec:
      runtimeClassName: wasmedge
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: registry.example.com/$image:bench
        imagePullPolicy: IfNotPresent
        ports: [{containerPort: 8080}]
        resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {cpu: "1", memory: 128Mi}}
YAML
}
deploy() {
  deployment "$@" | k apply -f - >/dev/null
  k rollout status "deployment/$1" --timeout=180s >/dev/null || die "deployment $1 did not become ready; log: $CLUSTER_LOG"
}
undeploy() {
  k delete deployment "$@" --wait=true >/dev/null
  local name
  for name in "$@"; do
    wait_until 60 no_pods "$name" || die "pods of $name did not go away within 60 s; log: $CLUSTER_LOG"
  done
}
no_pods() { [ -z "$(k get pods -l "app=$1" -o name)" ]; }
# addresses NAME : ADDRESS:PORT of its pods, in a new order each time.
addresses() { k get pods -l "app=$1" -o json | jq -r '.items[].status | select(.podIP != null) | .podIP + ":8080"' | shuf; }
bench_service() { printf 'apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {selector: {app: %s}, ports: [{port: 80, targetPort: 8080}]}\n---\n' "$1" "$1"; }

# --- cold start ---
figure_cold_start() {
  local kind rounds spaced peers_each out=$BENCH_DIR/cold i floor native wasm
  rounds=$([ "$BENCH_QUICK" = 1 ] && echo 2 || echo 10)
  spaced=$([ "$BENCH_QUICK" = 1 ] && echo 1 || echo 3)
  peers_each=$([ "$BENCH_QUICK" = 1 ] && echo 2 || echo 5)
  bench_cluster
  crun_prepare
  deploy cold 100 hello "skerry.dev/idle-after: 500ms"
  deploy warm 1 hello "skerry.dev/idle-after: 10m"
  : >"$out" && : >"$out.spaced" && : >"$out.warm" && : >"$out.native" && : >"$out.wasm"
  load --mode cold "$(addresses warm)" >/dev/null
  for i in $(seq "$rounds"); do
    # The warm pod counts as awake.
    cold_round cold 0 1 "$out"
    [ "$i" -gt "$spaced" ] || cold_round cold 20 1 "$out.spaced"
    load --mode cold "$(addresses warm)" --rounds 100 --samples "$out.warm" >/dev/null
    crun_times native "$peers_each" >>"$out.native"
    crun_times wasm "$peers_each" >>"$out.wasm"
  done
  floor=$(percentile 0.5 <"$out.warm")
  native=$(median <"$out.native")
  wasm=$(median <"$out.wasm")
  note "cold start: warm pod, new connection: P50 $floor µs; crun run: native $native µs, the wasm of edge-report $wasm µs"
  row cold-start-p50 "$(percentile 0.5 <"$out")" µs "crun run, native" "$native" "<" 1000
  row cold-start-p99 "$(percentile 0.99 <"$out")" µs "crun run, native, P99" "$(percentile 0.99 <"$out.native")" "<" 5000
  row cold-start-spaced-p50 "$(percentile 0.5 <"$out.spaced")" µs "crun run, Wasm" "$wasm" "<" 1000
  row cold-start-spaced-p99 "$(percentile 0.99 <"$out.spaced")" µs "crun run, Wasm, P99" "$(percentile 0.99 <"$out.wasm")" "<" 5000
  row cold-start-floor-p50 "$floor" µs "a cold pod" "$(percentile 0.5 <"$out")" "" ""
  undeploy cold warm
}

# cold_round NAME SPACING AWAKE SAMPLES : one call to every pod of the deployment, once no pods but AWAKE others have a
# process; every latency goes to the file SAMPLES.
cold_round() {
  wait_until 30 awake_is "$3" || die "$(awake_pods) pods have a process 30 s after the last call instead of $3; log: $CLUSTER_LOG"
  addresses "$1" >"$BENCH_DIR/targets"
  load --mode cold --targets "$BENCH_DIR/targets" --spacing "$2" --samples "$4" >/dev/null || die "not every pod answered"
}
awake_is() { [ "$(awake_pods)" = "$1" ]; }

# Through a ClusterIP: a Service for each of 100 pods, so that every call meets one without a process.
figure_cold_start_service() {
  local rounds i out=$BENCH_DIR/service
  rounds=$([ "$BENCH_QUICK" = 1 ] && echo 2 || echo 5)
  bench_cluster
  for i in $(seq 100); do
    cat <<YAML
apiVersion: v1
kind: Pod
metadata: {name: one-$i, labels: {app: one, one: "$i"}, annotations: {skerry.dev/idle-after: 500ms}}
spec:
  runtimeClassName: wasmedge
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: registry.example.com/hello:bench, imagePullPolicy: IfNotPresent, ports: [{containerPort: 8080}],
     resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {cpu: "1", memory: 128Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: one-$i, labels: {app: one}}
spec: {selector: {one: "$i"}, ports: [{port: 80, targetPort: 8080}]}
---
YAML
  done | k apply -f - >/dev/null
  k wait --for=condition=Ready pod -l app=one --timeout=60s >/dev/null || die "the pods did not become ready; log: $CLUSTER_LOG"
  k get services -l app=one -o json | jq -r '.items[].spec.clusterIP + ":80"' >"$BENCH_DIR/services"
  wait_until 10 services_answer || die "not every ClusterIP answers within 10 s; log: $CLUSTER_LOG"
  : >"$out" && : >"$out.direct"
  for i in $(seq "$rounds"); do
    wait_until 30 awake_is 0 || die "pods are still awake; log: $CLUSTER_LOG"
    shuf "$BENCH_DIR/services" >"$BENCH_DIR/targets"
    load --mode cold --targets "$BENCH_DIR/targets" --samples "$out" >/dev/null || die "not every Service answered"
    cold_round one 0 0 "$out.direct"
  done
  row cold-start-service-p50 "$(percentile 0.5 <"$out")" µs "the pod's own address" "$(percentile 0.5 <"$out.direct")" "<" 1200
  row cold-start-service-p99 "$(percentile 0.99 <"$out")" µs "the pod's own address" "$(percentile 0.99 <"$out.direct")" "" ""
  k delete pods,services -l app=one --wait=true >/dev/null
  wait_until 60 no_pods one || die "pods of one did not go away"
}
services_answer() { load --mode cold --targets "$BENCH_DIR/services" >/dev/null; }

# --- hot path ---
# wrk_run ADDRESS SECONDS : "requests p99_us", of 64 connections.
wrk_run() {
  wrk -c64 -t1 -d"$2" --latency "http://$1/" | awk '
    function us(text) { return text ~ /us$/ ? text + 0 : text ~ /ms$/ ? text * 1000 : text * 1000000 }
    /^ *99%/ { p99 = us($2) }
    /requests in/ { requests = $1 }
    /Non-2xx|Socket errors/ { print "bad answers: " $0 > "/dev/stderr"; bad = 1 }
    END { if (bad || !requests) exit 1; print requests, p99 }'
}
# hot_round ADDRESS SECONDS PIDS_COMMAND : "cpu_us_per_request p99_us requests_per_second".
hot_round() {
  local before after result pids
  pids=$($3)
  # shellcheck disable=SC2086
  before=$(cpu_us $pids)
  result=$(wrk_run "$1" "$2") || die "wrk met failures at $1"
  # shellcheck disable=SC2086
  after=$(cpu_us $pids)
  awk -v cpu=$((after - before)) -v seconds="$2" '{ printf "%.3f %s %.0f\n", cpu / $1, $2, $1 / seconds }' <<<"$result"
}

figure_hot() {
  local rounds seconds ours theirs address out=$BENCH_DIR/hot i
  rounds=$([ "$BENCH_QUICK" = 1 ] && echo 1 || echo 5)
  seconds=$([ "$BENCH_QUICK" = 1 ] && echo 1 || echo 5)
  bench_cluster
  deploy hot 1 hello "skerry.dev/idle-after: 10m"
  address=$(addresses hot)
  nginx_start
  wrk_run "$address" 1 >/dev/null || die "the pod does not answer wrk at $address"
  wrk_run "$NGINX_ADDRESS" 1 >/dev/null || die "nginx does not answer wrk"
  : >"$out" && : >"$out.nginx"
  for i in $(seq "$rounds"); do
    hot_round "$address" "$seconds" cluster_pids >>"$out"
    hot_round "$NGINX_ADDRESS" "$seconds" nginx_pids >>"$out.nginx"
  done
  column() { awk -v n="$2" '{ print $n }' "$1" | median; }
  ratio_row hot-cpu "$(column "$out" 1)" "µs/request" "nginx return 200" "$(column "$out.nginx" 1)" "<=" 1.1
  ratio_row hot-p99 "$(column "$out" 2)" µs "nginx return 200" "$(column "$out.nginx" 2)" "<=" 1.5
  row hot-rate "$(column "$out" 3)" "requests/s" "nginx return 200" "$(column "$out.nginx" 3)" "" ""
  undeploy hot
}

# A fresh instance for every request, one worker: wrk against the whole sandbox, network included; the engine alone is
# skerry-bench-guest's figure, where that program exists.
figure_fresh() {
  local rounds seconds address reused out=$BENCH_DIR/fresh i
  rounds=$([ "$BENCH_QUICK" = 1 ] && echo 1 || echo 5)
  seconds=$([ "$BENCH_QUICK" = 1 ] && echo 1 || echo 5)
  bench_cluster
  deploy fresh 1 hello "skerry.dev/idle-after: 10m" "skerry.dev/isolation: request"
  deploy reused 1 hello "skerry.dev/idle-after: 10m"
  address=$(addresses fresh)
  reused=$(addresses reused)
  : >"$out" && : >"$out.reused"
  for i in $(seq "$rounds"); do
    wrk_run "$address" "$seconds" | awk -v s="$seconds" '{ print $1 / s }' >>"$out"
    wrk_run "$reused" "$seconds" | awk -v s="$seconds" '{ print $1 / s }' >>"$out.reused"
  done
  row fresh "$(median <"$out")" "requests/s" "the same pod, instance reused" "$(median <"$out.reused")" ">=" 45000
  undeploy fresh reused
}

# --- memory ---
# Private memory and page tables of every process of the cluster, kB.
private_kb() {
  local pid
  cluster_pids | while read -r pid; do
    awk '/^Private_(Clean|Dirty):/ { sum += $2 } END { print sum + 0 }' "/proc/$pid/smaps_rollup" 2>/dev/null || true
    awk '/^VmPTE:/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true
  done | awk '{ sum += $1 } END { print sum + 0 }'
}
settled_private_kb() { sleep 2 && private_kb; }

figure_memory_running() {
  local first=50 last=250 a b
  [ "$BENCH_QUICK" = 0 ] || { first=5 && last=25; }
  bench_cluster
  deploy running "$last" hello "skerry.dev/idle-after: 10m"
  addresses running >"$BENCH_DIR/running"
  head -n "$first" "$BENCH_DIR/running" >"$BENCH_DIR/targets"
  load --mode cold --targets "$BENCH_DIR/targets" >/dev/null || die "not every pod answered"
  a=$(settled_private_kb)
  tail -n +"$((first + 1))" "$BENCH_DIR/running" >"$BENCH_DIR/targets"
  load --mode cold --targets "$BENCH_DIR/targets" >/dev/null || die "not every pod answered"
  b=$(settled_private_kb)
  containerd_measure
  row memory-running "$(calc "($b - $a) / ($last - $first)")" KB "containerd: a shim of runc and pause" "$CONTAINERD_POD_KB" "<=" 300
  undeploy running
}

# note_memory : the processes, and what they take; also in $BENCH_DIR/memory.
note_memory() {
  local name count kb
  cluster_memory >"$BENCH_DIR/memory"
  while IFS=$'\t' read -r name count kb; do note "$(printf 'memory: %-36s %4d %8.1f MB' "$name" "$count" "$(calc "$kb / 1024")")"; done <"$BENCH_DIR/memory"
}
figure_memory_idle() {
  local first=100 last=1000 a b
  [ "$BENCH_QUICK" = 0 ] || { first=20 && last=60; }
  bench_cluster
  deploy idle "$first" hello
  wait_until 60 awake_is 0 || true
  sleep 3
  a=$(cluster_pss_kb)
  note_memory
  k scale deployment/idle --replicas="$last" >/dev/null
  k rollout status deployment/idle --timeout=180s >/dev/null || die "$last pods did not become ready; log: $CLUSTER_LOG"
  sleep 5
  b=$(cluster_pss_kb)
  note_memory
  containerd_measure
  row memory-idle "$(calc "($b - $a) / ($last - $first)")" KB "containerd: a shim of runc and pause" "$CONTAINERD_POD_KB" "<=" 8
  undeploy idle
}

figure_node_100() {
  local node
  bench_cluster
  deploy hundred 100 hello
  wait_until 60 awake_is 0 || true
  sleep 3
  note_memory
  # The node: everything but the API server and the supervisor above both.
  node=$(awk -F'\t' '$1 !~ /^skerry (server|up)/ { sum += $3 } END { print sum / 1024 }' "$BENCH_DIR/memory")
  containerd_measure
  row node-100 "$node" MB "containerd and 100 such pods, without kubelet" "$(calc "($CONTAINERD_BASE_KB + 100 * $CONTAINERD_POD_KB) / 1024")" "<=" 30
  undeploy hundred
}

# --- deployments ---
figure_apply_100() {
  local rounds i from out=$BENCH_DIR/apply
  rounds=$([ "$BENCH_QUICK" = 1 ] && echo 1 || echo 5)
  bench_cluster
  : >"$out"
  for i in $(seq "$rounds"); do
    from=$(now_ms)
    deploy applied 100 hello
    echo $(($(now_ms) - from)) >>"$out"
    undeploy applied
  done
  containerd_measure
  row apply-100 "$(median <"$out")" ms "containerd: ctr run, 100 times what one takes" "$(calc "100 * $CONTAINERD_POD_MS")" "<" 2000
}

figure_pods_1000() {
  local count=1000 from ready result memory
  [ "$BENCH_QUICK" = 0 ] || count=50
  bench_cluster
  from=$(now_ms)
  deploy thousand $count hello "skerry.dev/idle-after: 5s"
  ready=$(($(now_ms) - from))
  addresses thousand >"$BENCH_DIR/targets"
  [ "$(wc -l <"$BENCH_DIR/targets")" = $count ] || die "not every one of $count pods has an address"
  result=$(load --mode cold --targets "$BENCH_DIR/targets" --errors-max $count)
  memory=$(cluster_pss_kb)
  containerd_measure
  row pods-1000-ready "$ready" ms "containerd: ctr run, $count times what one takes" "$(calc "$count * $CONTAINERD_POD_MS")" "" ""
  row pods-1000-answered "$(get "$result" requests)" pods "" "" ">=" $count
  row pods-1000-cold-p50 "$(get "$result" p50_us)" µs "100 pods on the node" "$(recall cold-start-p50)" "" ""
  row pods-1000-cold-p99 "$(get "$result" p99_us)" µs "100 pods on the node" "$(recall cold-start-p99)" "" ""
  row pods-1000-memory "$(calc "$memory / 1024")" MB "containerd and $count such pods" "$(calc "($CONTAINERD_BASE_KB + $count * $CONTAINERD_POD_KB) / 1024")" "" ""
  undeploy thousand
}

# --- the case: one node's share of the fleet ---
# case_load SECONDS TARGETS_OPTION… : 2000 requests/s over 200 connections, whatever the answers' delay.
case_load() {
  local seconds=$1
  shift
  load --mode open --rate 2000 --connections 200 --seconds "$seconds" --warm-seconds 1 \
    --method POST --body "$SKERRY_TOP/guest/examples/edge-service/readings.json" --errors-max 1000000 "$@"
}
# nginx answers the same requests at the same rate with `return 200`: what this machine and the load generator cost alone.
figure_case() {
  local seconds=60 replicas=100 result before after from memory cpu floor
  [ "$BENCH_QUICK" = 0 ] || seconds=3
  bench_cluster
  nginx_start
  deploy case $replicas edge-service
  addresses case >"$BENCH_DIR/targets"
  floor=$(case_load $((seconds / 3)) "$NGINX_ADDRESS") || die "nginx met failures"
  # One call to each first, so that the processes whose CPU time is read live from beginning to end.
  load --mode cold --targets "$BENCH_DIR/targets" >/dev/null || die "not every pod answered"
  # shellcheck disable=SC2046
  before=$(cpu_us $(cluster_pids))
  from=$(now_ms)
  case_load $seconds --targets "$BENCH_DIR/targets" >"$BENCH_DIR/case"
  # shellcheck disable=SC2046
  after=$(cpu_us $(cluster_pids))
  result=$(cat "$BENCH_DIR/case")
  memory=$(cluster_pss_kb)
  cpu=$(calc "100 * ($after - $before) / 1000 / (($(now_ms) - $from) * $(nproc))")
  local p limit
  for p in 50:30 99:50 999:100; do
    limit=${p#*:} p=p${p%:*}
    row "case-$p" "$(calc "$(get "$result" "${p}_us") / 1000")" ms "nginx return 200, the same rate" "$(calc "$(get "$floor" "${p}_us") / 1000")" "<" "$limit"
  done
  row case-errors "$(get "$result" errors)" requests "" "" "<=" 0
  row case-rate "$(get "$result" rate)" "requests/s" "" "" ">=" 1990
  row case-cpu "$cpu" "% of $(nproc) cores" "" "" "<=" 50
  row case-memory "$(calc "100 * $memory / (8 * 1024 * 1024)")" "% of 8 GB" "" "" "<=" 60
  undeploy case
}
