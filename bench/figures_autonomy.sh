# SPDX-License-Identifier: Apache-2.0
# The figures of a node that is cut off: what share of requests is answered while the control plane is away and the node's processes
# and power fail, and how long a start from the disk takes. Real processes, in the two namespaces of scripts/line.sh.
# Sourced by scripts/bench.
# shellcheck shell=bash disable=SC2034

ALONE_PODS=100
ALONE_KEPT_RATE=270  # requests a second over the Service, on connections that are kept
ALONE_FRESH_RATE=30  # on a connection of its own each: half of them over the Service, half to each pod in turn, of which most have no process
ALONE_RATE=$((ALONE_KEPT_RATE + ALONE_FRESH_RATE))
ALONE_BOOTS_A_DAY=3 # at most, where the power fails every 8 to 10 hours as in sim/scenarios/day.toml
ALONE_LOADERS=()

alone_line() { # a line with pods behind a Service, cut; what ran before is ended
  line_stop || die "the line before did not end well"
  stop_cluster || die "the cluster before did not end well"
  line_start "$BENCH_BUILD"
  LINE_PERIOD=''
  k apply -f deploy/examples/edge-service/runtimeclass.yaml >/dev/null
  wat2wasm tests/e2e/testdata/environment.wat -o "$BENCH_DIR/environment.wasm"
  local image
  for image in "$BENCH_BUILD/guest/hello.wasm" "$BENCH_DIR/environment.wasm"; do
    "$SKERRY" image add "$image" "registry.example.com/$(basename "$image" .wasm):bench" --data-dir "$CLUSTER_DIR/data" >/dev/null
  done
  deploy alone $ALONE_PODS hello "skerry.dev/idle-after: 1s"
  bench_service alone | k apply -f - >/dev/null
  k create configmap settings --from-literal=level=high >/dev/null
  k create secret generic password --from-literal=word=hunter2 >/dev/null
  deployment shown 5 environment | sed 's/^        image: .*/&\n        envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: password}}]/' | k apply -f - >/dev/null
  k rollout status deployment/shown --timeout=60s >/dev/null || die "the pods that show their environment did not become ready; log: $CLUSTER_LOG"
  ALONE_SERVICE=$(k get service alone -o jsonpath='{.spec.clusterIP}'):80
  addresses alone >"$BENCH_DIR/alone-targets"
  awk -v service="$ALONE_SERVICE" '{ print; print service }' "$BENCH_DIR/alone-targets" >"$BENCH_DIR/alone-mixed"
  addresses shown >"$BENCH_DIR/alone-shown"
  sleep 6 # what the watches told last is on the disk within 5 s
  line_cut
}
alone_pid() { # WORD : the node's process that is skerry-sandbox WORD
  local pid
  for pid in $(line_node_pids); do
    [ "$(process_name "$pid")" != "skerry-sandbox $1" ] || { echo "$pid" && return; }
  done
}
# alone_busy : the sandbox that holds the most sockets, so that requests are inside; one that serves nobody holds one, to its keeper.
alone_busy() {
  local pid
  for pid in $(line_node_pids); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != skerry-slot ] || echo "$(find "/proc/$pid/fd" -lname 'socket:*' 2>/dev/null | wc -l) $pid"
  done | sort -n | awk 'END { if ($1 > 2) print $2 }'
}
alone_connected() { [ "$(node_metric skerry_agent_api_connected)" = 1 ]; }
alone_disconnected() { [ "$(node_metric skerry_agent_api_connected)" = 0 ]; }
alone_reaches_server() { # mends the line; the node must have noticed that it was cut
  wait_until 60 alone_disconnected || die "the node did not notice that the line is cut; log: $CLUSTER_LOG"
  ALONE_MENDED=$(now_ms)
  line_mend
  wait_until 60 alone_connected || die "the node did not come back within 60 s of the line's return; log: $CLUSTER_LOG"
}
alone_cut() { # again, after alone_reaches_server; ALONE_THERE_MS is how long the line was there
  line_cut
  ALONE_THERE_MS=$((ALONE_THERE_MS + $(now_ms) - ALONE_MENDED))
}
# alone_kill WORD… : kill -9 of the node's processes of these names, at once; agent: the agent itself; busy: a sandbox at work.
alone_kill() {
  local word pid victims=()
  for word in "$@"; do
    case $word in
      agent) pid=$LINE_NODE_PID ;;
      busy) pid=$(alone_busy) ;;
      *) pid=$(alone_pid "$word") ;;
    esac
    [ -n "$pid" ] || die "there is no $word to kill: $(line_node_pids | xargs ps -o pid,comm,args -p | head -c 600)"
    victims+=("$pid")
  done
  kill -KILL "${victims[@]}" || die "$* ended before it could be killed"
}
# alone_fault KIND : what fails. What the node starts again by itself is not awaited.
alone_fault() {
  case $1 in
    none) ;;
    agent | agent+keeper)
      # shellcheck disable=SC2086
      alone_kill ${1/+/ }
      wait "$LINE_NODE_PID" 2>/dev/null || true
      line_start_node
      ;;
    keeper | template) alone_kill "$1" ;;
    sandbox)
      alone_kill busy
      ALONE_KILLED=$((ALONE_KILLED + 1))
      ;;
    line) # comes back and goes again
      alone_reaches_server
      alone_cut
      ;;
    server) # dies while the node is connected to it, and comes back; then the line goes
      alone_reaches_server
      line_kill_server
      wait_until 60 alone_disconnected || die "the node did not notice that the server died; log: $CLUSTER_LOG"
      line_start_server
      wait_until 60 alone_connected || die "the node did not come back within 60 s of the server's start; log: $CLUSTER_LOG"
      alone_cut
      ;;
  esac
}

# alone_load SECONDS CONNECTIONS : two open loops, from the node's namespace, the one over the Service with so many connections.
alone_load() {
  local common=(--mode open --seconds "$1" --timeout 1000 --errors-max 1000000)
  ALONE_LOADERS=()
  nsenter "--net=/run/netns/$LINE_NODE" "$BENCH_BUILD/bin/skerry-bench-load" "$ALONE_SERVICE" --rate $ALONE_KEPT_RATE --connections "$2" "${common[@]}" \
    >"$BENCH_DIR/alone-kept" 2>"$BENCH_DIR/said" &
  ALONE_LOADERS+=($!)
  nsenter "--net=/run/netns/$LINE_NODE" "$BENCH_BUILD/bin/skerry-bench-load" --targets "$BENCH_DIR/alone-mixed" --close --rate $ALONE_FRESH_RATE --connections $((2 * ALONE_PODS)) "${common[@]}" \
    >"$BENCH_DIR/alone-fresh" 2>>"$BENCH_DIR/said" &
  ALONE_LOADERS+=($!)
}
alone_stop() { # whatever runs
  local pid
  for pid in "${ALONE_LOADERS[@]}"; do stop_pid "$pid" 5 || return 1; done
  ALONE_LOADERS=()
}
# alone_loaded FAULT : awaits the load. Sets ALONE_SENT and ALONE_FAILED: each request that was due, and those that were not answered 200 within a second.
alone_loaded() {
  local pid
  for pid in "${ALONE_LOADERS[@]}"; do ! process_gone "$pid" || die "the load ended before $1 was over: $(head -c 600 "$BENCH_DIR/said"); log: $CLUSTER_LOG"; done
  for pid in "${ALONE_LOADERS[@]}"; do wait "$pid" || die "the load ended badly: $(head -c 600 "$BENCH_DIR/said")"; done
  ALONE_LOADERS=()
  ALONE_SENT=$(jq -s 'map(.requests + .errors) | add' "$BENCH_DIR/alone-kept" "$BENCH_DIR/alone-fresh")
  ALONE_FAILED=$(jq -s 'map(.errors) | add' "$BENCH_DIR/alone-kept" "$BENCH_DIR/alone-fresh")
  local part
  note "cut off, $1: $ALONE_FAILED of $ALONE_SENT requests failed"
  for part in kept fresh; do
    [ $ALONE_FAILED = 0 ] || note "  $part connections: $(jq -r '"\(.errors) of \(.requests + .errors) (refused \(.refused), late \(.timeouts), answered otherwise \(.wrong_status)), P999 \(.p999_us) µs; the first: \(.first_error)"' "$BENCH_DIR/alone-$part")"
  done
}

# --- what was acknowledged ---
alone_pods() { k get pods -l app=alone -o json | jq -c '[.items[] | {key: .metadata.name, value: {uid: .metadata.uid, address: .status.podIP, container: .status.containerStatuses[0].containerID, restarts: .status.containerStatuses[0].restartCount}}] | from_entries'; }
alone_restarts() { [ "$(alone_pods | jq '[.[].restarts] | add')" = "$1" ]; }
alone_scaled() { [ "$(k get deployment shown -o jsonpath='{.status.readyReplicas} of {.spec.replicas}')" = '6 of 6' ]; }
# alone_change : made at the node while it is cut off, acknowledged by its own API.
alone_change() {
  on_node kubectl --kubeconfig "$CLUSTER_DIR/data/node/local.kubeconfig" --cache-dir "$CLUSTER_DIR/kube-cache" scale deployment shown --replicas=6 >"$BENCH_DIR/said" 2>&1 || die "the node did not take a change while it is cut off: $(head -c 600 "$BENCH_DIR/said")"
  grep -q 'control plane has not taken it yet' "$BENCH_DIR/said" || die "the change was not made at the node: $(head -c 600 "$BENCH_DIR/said")"
}
# alone_state : after the line's return. A pod is kept if it has its uid and address, and its container unless that was killed here: so many more
# restarts are told as sandboxes were killed. Values of a ConfigMap and a Secret are those that the pods show.
alone_state() {
  local before=$1 restarts after lost values
  restarts=$(($(jq '[.[].restarts] | add' <<<"$before") + ALONE_KILLED))
  wait_until 60 alone_restarts "$restarts" || true # told late; what is told then is judged
  after=$(alone_pods)
  lost=$(jq -nc --argjson before "$before" --argjson after "$after" '[$before | to_entries[] | .value as $b | ($after[.key] // {}) as $a
    | select($a.uid != $b.uid or $a.address != $b.address or $a.restarts < $b.restarts or ($a.restarts == $b.restarts and $a.container != $b.container)) | {pod: .key, before: $b, after: $a}]')
  [ "$lost" = '[]' ] || note "pods that are not what they were: $(head -c 600 <<<"$lost")"
  lost=$(jq length <<<"$lost")
  alone_restarts "$restarts" || {
    note "restarts told: $(jq '[.[].restarts] | add' <<<"$after") instead of $restarts: $(k get pods -l app=alone -o json | jq -c '[.items[] | {pod: .metadata.name} + .status.containerStatuses[0] | select(.restartCount > 0) | {pod, restartCount, last: .lastState.terminated}]' | head -c 1200)"
    lost=$((lost + 1))
  }
  wait_until 60 alone_scaled || {
    note "the change that the node acknowledged is not on the server: $(k get deployment,pods -l app=shown --no-headers | head -c 600)"
    lost=$((lost + 1))
  }
  values=$(cat "$BENCH_DIR/alone-values")
  [ "$values" = 10 ] || note "after the boot the pods show $values of 10 values"
  ALONE_ALL=$((ALONE_PODS + 10 + 1 + 1))
  row offline-state "$(calc "100 * ($ALONE_ALL - $lost - 10 + $values) / $ALONE_ALL")" "% of $ALONE_ALL kept" "" "" ">=" 100
}
# alone_values : how many of the ten values the five pods have.
alone_values() {
  local address
  while read -r address; do on_node curl -s --max-time 5 "http://$address/" | tr '\0' '\n'; done <"$BENCH_DIR/alone-shown" | grep -cxE 'level=high|word=hunter2' || true
}

# Goal: more than an hour's worth of what goes wrong in a day, in minutes (the day of sim/scenarios/day.toml has some sixty faults, two or three
# an hour; here are ten in fifteen minutes). Method: the line is cut; open loops of requests, each due at its time and to be answered 200 within a
# second; one fault a window. The last is a power cut: the load begins again just before the start of the process, and goes on, so that each
# request of the boot counts as it comes out; those from before the power's return have nobody to send them.
#
# In the windows `line` and `server` the line is back for a while, from its return to the next cut. The requests that were due then are not among
# those that the shares are of; those that failed then count as any other. So the shares are at most what they are with the control plane away.
#
# offline-requests: all windows but the boot's, each request alike. offline-requests-run: the boot's window too, as if the power failed every
# fifteen minutes; the same bar, though the day that is claimed has three boots. offline-requests-boot: that day, i.e. what the boot lost against
# the requests of a third of a day at this rate; the other faults as they are in this run.
figure_offline_requests() {
  local window=60 long=120 fault sent=0 failed=0 there before boot_day
  [ "$BENCH_QUICK" = 0 ] || { window=6 && long=60; }
  ALONE_KILLED=0 ALONE_THERE_MS=0
  alone_line
  before=$(alone_pods)
  for fault in none agent sandbox keeper line template sandbox server agent+keeper sandbox none; do
    alone_load "$(case $fault in line | server) echo $long ;; *) echo $window ;; esac)" 60
    sleep $((window / 3))
    alone_fault "$fault"
    alone_loaded "$fault"
    sent=$((sent + ALONE_SENT))
    failed=$((failed + ALONE_FAILED))
  done
  there=$((ALONE_RATE * ALONE_THERE_MS / 1000))
  note "the line was there for $ALONE_THERE_MS ms of these windows: $there of $sent requests are left out"
  sent=$((sent - there))
  wait_until 60 alone_disconnected || die "the node did not notice that the line is cut; log: $CLUSTER_LOG"
  alone_values >"$BENCH_DIR/alone-values"
  [ "$(cat "$BENCH_DIR/alone-values")" = 10 ] || note "before the boot the pods show $(cat "$BENCH_DIR/alone-values") of 10 values"
  alone_change
  line_power_cut
  alone_load "$window" $((ALONE_KEPT_RATE * 13 / 10)) # as many as are under way when none is answered: no request waits for another one
  line_start_node
  alone_loaded "power cut"
  on_node "$BENCH_BUILD/bin/skerry-bench-load" --mode cold --targets "$BENCH_DIR/alone-targets" >"$BENCH_DIR/said" 2>&1 || die "not every pod serves after the power cut: $(head -c 600 "$BENCH_DIR/said")"
  alone_values >"$BENCH_DIR/alone-values"
  row offline-requests "$(calc "100 * (1 - $failed / $sent)")" "% of $sent answered in 1 s" "the case" 99 ">=" 99.99
  row offline-requests-run "$(calc "100 * (1 - ($failed + $ALONE_FAILED) / ($sent + $ALONE_SENT))")" "%, a boot in these minutes" "the case" 99.9 ">=" 99.9
  boot_day=$((ALONE_RATE * 86400 / ALONE_BOOTS_A_DAY))
  row offline-requests-boot "$(calc "100 * (1 - $failed / $sent - $ALONE_FAILED / $boot_day)")" "%, $ALONE_BOOTS_A_DAY boots a day counted" "the case" 99.9 ">=" 99.9
  alone_reaches_server
  alone_state "$before"
}

# alone_boot : power cut, start from the disk, all pods called. Sets ALONE_BOOT_MS.
alone_boot() {
  local started
  line_power_cut
  started=$(now_ms)
  line_start_node
  # The process is ready before its pods are: asked until all answer.
  until on_node "$BENCH_BUILD/bin/skerry-bench-load" --mode cold --targets "$BENCH_DIR/alone-targets" >"$BENCH_DIR/said" 2>&1; do
    [ $(($(now_ms) - started)) -lt 30000 ] || die "not every pod serves 30 s after the power cut: $(head -c 600 "$BENCH_DIR/said")"
    sleep 0.02
  done
  ALONE_BOOT_MS=$(($(now_ms) - started))
}
figure_offline_boot() {
  local rounds i out=$BENCH_DIR/boots
  rounds=$([ "$BENCH_QUICK" = 1 ] && echo 1 || echo 5)
  alone_line
  for i in $(seq "$rounds"); do
    alone_boot
    echo "$ALONE_BOOT_MS" >>"$out"
  done
  row offline-boot "$(calc "$(median <"$out") / 1000")" "s, 100 pods" "OpenYurt (as published)" 60 "<" 3
}

# A day in simulated time: the node's cores under outages, crashes, reboots, full and failing disks (sim/scenarios/day.toml). Each start of the
# agent is compared with all that was acted upon and told before: what it has lost, or has otherwise, is counted. Anything else that a checker
# finds, e.g. a pod run twice, fails the run.
figure_simulated_day() {
  local seeds seed out=$BENCH_DIR/days away boot
  seeds=$([ "$BENCH_QUICK" = 1 ] && echo 1 || echo 5)
  for seed in $(seq "$seeds"); do
    "$BENCH_BUILD/bin/skerry-sim" --day --seed "$seed" >"$out.one" || jq -es '.[0].state_violations > 0 and .[0].violations == .[0].state_violations' "$out.one" >/dev/null ||
      die "the simulated day with seed $seed broke a promise: $(tail -n 1 "$out.one" | head -c 600)"
    cat "$out.one" >>"$out"
  done
  share() { jq -s "100 * ([.[].$1.answered] | add) / ([.[].$1.requests] | add)" "$out"; }
  away=$(share control_plane_away)
  boot=$(share with_every_boot)
  note "simulated: $seeds days, $(jq -s '[.[].boots] | add' "$out") boots, $(jq -s '[.[].hours_without_control_plane] | add | round' "$out") hours without control plane"
  row simulated-day "$away" "% while it is away" "the case" 99 ">=" 99.99
  row simulated-day-boots "$boot" "%, every boot counted" "the case" 99.9 ">=" 99.9
  row simulated-day-state "$(jq -s '[.[].state_violations] | add' "$out")" "lost in $(jq -s '[.[].agent_starts] | add' "$out") starts" "" "" "<=" 0
}
