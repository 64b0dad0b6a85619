# SPDX-License-Identifier: Apache-2.0
# The figures of a node that is cut off: what share of requests is answered while the control plane is away and the node's processes
# and power fail, and how long a start from the disk takes. Real processes, in the two namespaces of scripts/line.sh.
# Sourced by scripts/bench.
# shellcheck shell=bash disable=SC2034

alone_line() { # a line with idle pods behind a Service; what ran before is ended
  line_stop || die "the line before did not end well"
  stop_cluster || die "the cluster before did not end well"
  line_start "$BENCH_BUILD"
  LINE_PERIOD=''
  k apply -f deploy/examples/edge-service/runtimeclass.yaml >/dev/null
  "$SKERRY" image add "$BENCH_BUILD/guest/hello.wasm" registry.example.com/hello:bench --data-dir "$CLUSTER_DIR/data" >/dev/null
  deploy alone 100 hello
  bench_service alone | k apply -f - >/dev/null
  ALONE_SERVICE=$(k get service alone -o jsonpath='{.spec.clusterIP}'):80
  addresses alone >"$BENCH_DIR/alone-targets"
  sleep 6 # what the watches told last is on the disk within 5 s
  line_cut
}
alone_pid() { # WORD : the node's process that is skerry-sandbox WORD
  local pid
  for pid in $(line_node_pids); do
    [ "$(process_name "$pid")" != "skerry-sandbox $1" ] || { echo "$pid" && return; }
  done
}
# alone_awake : the sandboxes that serve a pod now hold more sockets than the one to their keeper.
alone_awake() {
  local pid
  for pid in $(line_node_pids); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = skerry-slot ] || continue
    [ "$(find "/proc/$pid/fd" -lname 'socket:*' 2>/dev/null | wc -l)" -lt 2 ] || echo "$pid"
  done
}
# alone_fault KIND : what fails. The next process is awaited by whoever needs it, not here.
alone_fault() {
  local victim
  case $1 in
    agent) line_kill_node && line_start_node ;;
    keeper) victim=$(alone_pid keeper) && kill -KILL "$victim" ;;
    template) victim=$(alone_pid template) && kill -KILL "$victim" ;;
    sandbox) victim=$(alone_awake) && { [ -z "$victim" ] || kill -KILL "${victim%%$'\n'*}"; } ;;
    none) ;;
  esac
}

# Goal: an hour's worth of what goes wrong in a day, in minutes. Method: the line is cut; an open loop of requests over the Service, each
# to be answered 2xx within a second; one fault a window. Then the power is cut: requests that would have been sent from the start of the
# process until all pods serve count as lost.
figure_offline_requests() {
  local rate=300 window=60 fault sent=0 failed=0 result started boot_ms
  [ "$BENCH_QUICK" = 0 ] || window=6
  alone_line
  for fault in none agent sandbox keeper template sandbox none; do
    nsenter "--net=/run/netns/$LINE_NODE" "$BENCH_BUILD/bin/skerry-bench-load" "$ALONE_SERVICE" --mode open --rate $rate --connections 60 --seconds $window --timeout 1000 --errors-max 1000000 \
      >"$BENCH_DIR/alone-load" 2>"$BENCH_DIR/said" &
    local loader=$!
    sleep $((window / 3))
    alone_fault "$fault"
    wait "$loader" || die "the load ended badly: $(head -c 600 "$BENCH_DIR/said")"
    result=$(cat "$BENCH_DIR/alone-load")
    note "cut off, $fault fails: $(jq -r '"\(.errors) of \(.requests + .errors) requests, P999 \(.p999_us) µs"' <<<"$result")"
    sent=$((sent + $(get "$result" requests) + $(get "$result" errors)))
    failed=$((failed + $(get "$result" errors)))
  done
  alone_boot
  row offline-requests "$(calc "100 * (1 - $failed / $sent)")" "% of $sent answered in 1 s" "the case" 99 ">=" 99.99
  row offline-requests-boot "$(calc "100 * (1 - ($failed + $ALONE_BOOT_MS * $rate / 1000) / ($sent + $ALONE_BOOT_MS * $rate / 1000))")" "%, a boot of $ALONE_BOOT_MS ms counted" "the case" 99.9 ">=" 99.9
}

# alone_boot : power cut, start from the disk, all pods called. Sets ALONE_BOOT_MS.
alone_boot() {
  local started
  line_power_cut
  started=$(now_ms)
  line_start_node
  on_node "$BENCH_BUILD/bin/skerry-bench-load" --mode cold --targets "$BENCH_DIR/alone-targets" >"$BENCH_DIR/said" 2>&1 || die "not every pod serves after the power cut: $(head -c 600 "$BENCH_DIR/said")"
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

# A day in simulated time: the node's cores under outages, crashes, reboots, full and failing disks (sim/scenarios/day.toml). A checker
# that finds something, e.g. a pod run twice or a state lost, fails the run.
figure_simulated_day() {
  local seeds seed out=$BENCH_DIR/days away boot kept
  seeds=$([ "$BENCH_QUICK" = 1 ] && echo 1 || echo 5)
  for seed in $(seq "$seeds"); do
    "$BENCH_BUILD/bin/skerry-sim" --day --seed "$seed" >>"$out" || die "the simulated day with seed $seed broke a promise: $(tail -n 1 "$out" | head -c 600)"
  done
  share() { jq -s "100 * ([.[].$1.answered] | add) / ([.[].$1.requests] | add)" "$out"; }
  away=$(share control_plane_away)
  boot=$(share with_every_boot)
  kept=$(jq -s '100 * ([.[].acknowledged_state_kept] | min)' "$out")
  note "simulated: $seeds days, $(jq -s '[.[].boots] | add' "$out") boots, $(jq -s '[.[].hours_without_control_plane] | add | round' "$out") hours without control plane"
  row simulated-day "$away" "% while it is away" "the case" 99 ">=" 99.99
  row simulated-day-boots "$boot" "%, every boot counted" "the case" 99.9 ">=" 99.9
  row simulated-day-state "$kept" "% kept" "" "" ">=" 100
}
