# SPDX-License-Identifier: Apache-2.0
# The figures of a node at the end of a thin line: what it sends and writes while nothing happens, what coming back costs, and
# how fast it pulls. Server and node are in two network namespaces joined by a veth pair; bytes are those of IP packets in both
# directions, counted at the node's end. Sourced by scripts/bench after cluster.sh.
# shellcheck shell=bash disable=SC2034

LINE_PODS=100
LINE_IDLE_10=640 # seconds: what a node writes every ten minutes is in that window

# idle_line NODE_OPTION… : a line whose node has idle pods, all Ready. What ran before is ended.
idle_line() {
  line_stop || die "the line before did not end well"
  stop_cluster || die "the cluster before did not end well"
  line_start "$BENCH_BUILD" "$@"
  k apply -f deploy/examples/edge-service/runtimeclass.yaml >/dev/null
  "$SKERRY" image add "$BENCH_BUILD/guest/hello.wasm" registry.example.com/hello:bench --data-dir "$CLUSTER_DIR/data" >/dev/null
  deploy idle $LINE_PODS hello
}
# written_bytes PID… : what they had the kernel write to disk so far, with those below them.
written_bytes() {
  local pid
  for pid in "$@"; do cat "/proc/$pid/io" 2>/dev/null || true; done | awk '/^write_bytes:/ { sum += $2 } END { printf "%.0f", sum }'
}
line_restarts() { k get pods -o json | jq '[.items[].status.containerStatuses[]?.restartCount] | add // 0'; }

# --- a node that does nothing ---
# line_cluster PERIOD : a line whose node renews its Lease so often; one that is there already is taken.
LINE_PERIOD=
line_cluster() {
  [ -z "$LINE_SERVER" ] || [ "$LINE_PERIOD" != "$1" ] || return 0
  idle_line --lease-period "$1"
  LINE_PERIOD=$1
  sleep "$([ "$BENCH_QUICK" = 1 ] && echo 3 || echo 60)" # what the start has set off comes to an end
}
a_day() { calc "$1 * 86400 / $2 / 1000000"; } # BYTES SECONDS : MB

# line_idle PERIOD SECONDS : what a node with that lease period sends and writes in a window of that length. Once for each period; sets
# IDLE_SECONDS, IDLE_BYTES, IDLE_PACKETS, IDLE_WRITTEN, IDLE_SERVER_WRITTEN.
line_idle() {
  local pids bytes packets written server known=$BENCH_DIR/idle-$1
  if [ ! -f "$known" ]; then
    line_cluster "${1}s"
    IDLE_SECONDS=$([ "$BENCH_QUICK" = 1 ] && echo "$1" || echo "$2")
    pids=$(line_node_pids)
    bytes=$(line_bytes)
    packets=$(line_packets)
    # shellcheck disable=SC2086
    written=$(written_bytes $pids)
    server=$(written_bytes "$LINE_SERVER_PID")
    sleep "$IDLE_SECONDS"
    [ "$pids" = "$(line_node_pids)" ] || die "the node's processes changed while nothing happened; log: $CLUSTER_LOG"
    # shellcheck disable=SC2086
    echo "$IDLE_SECONDS $(($(line_bytes) - bytes)) $(($(line_packets) - packets)) $(($(written_bytes $pids) - written)) $(($(written_bytes "$LINE_SERVER_PID") - server))" >"$known"
  fi
  read -r IDLE_SECONDS IDLE_BYTES IDLE_PACKETS IDLE_WRITTEN IDLE_SERVER_WRITTEN <"$known"
}

# What comes once an hour is not in a window of minutes: watches are opened anew, the node's status is told again. That is at
# most what coming back after an outage costs, so that is added, 24 times.
line_wire() { # PERIOD SECONDS LIMIT
  local hour
  [ -n "$(recall reconnect-bytes)" ] || figure_reconnect
  hour=$(recall reconnect-bytes)
  line_idle "$1" "$2"
  note "idle, lease $1 s: $IDLE_BYTES bytes of IP in $IDLE_PACKETS packets in $IDLE_SECONDS s; what comes every hour: at most $(calc "$hour * 1000") bytes"
  row "node-wire-$1" "$(calc "$(a_day "$IDLE_BYTES" "$IDLE_SECONDS") + 24 * $hour / 1000")" "MB a day, from $IDLE_SECONDS s" "" "" "<" "$3"
}
figure_node_wire_60() { line_wire 60 600 2; }
figure_node_wire_10() { line_wire 10 $LINE_IDLE_10 15; }

# What an idle node writes are the watches' revisions, once in ten minutes. A whole copy of its checkpoint, at most hourly, needs an object that changed.
figure_node_disk() {
  line_idle 10 $LINE_IDLE_10
  note "idle: $IDLE_WRITTEN bytes written in $IDLE_SECONDS s; the checkpoint's copy, which is not made meanwhile, has $(stat -c %s "$CLUSTER_DIR/data/node/agent.db.good" 2>/dev/null || echo 'no') bytes"
  [ "$BENCH_QUICK" = 1 ] || [ "$IDLE_WRITTEN" -gt 0 ] || die "the node wrote nothing in $IDLE_SECONDS s, so its revisions, due every ten minutes, were missed"
  row node-disk "$(a_day "$IDLE_WRITTEN" "$IDLE_SECONDS")" "MB a day, from $IDLE_SECONDS s" "skerry server, meanwhile" "$(a_day "$IDLE_SERVER_WRITTEN" "$IDLE_SECONDS")" "<" 50
}

# --- the line comes back ---
line_connections() { nsenter "--net=/run/netns/$LINE_NODE" ss -Htn state established dst 192.0.2.1:6443 | awk '{ sub(/.*:/, "", $3); print $3 }' | sort; }
line_ready() { k get node edge -o json | jq -r '.status.conditions[] | select(.type == "Ready") | .status + " " + .lastHeartbeatTime'; }
# line_is_back STATUS CONNECTIONS : Ready by another status than that, and over other connections than those one for the Lease and one
# for each of four watches (pods, Services, EndpointSlices, edge-config).
line_is_back() {
  local ready
  ready=$(line_ready)
  [ "${ready%% *}" = True ] && [ "$ready" != "$1" ] && [ "$(comm -13 <(echo "$2") <(line_connections) | wc -l)" -ge 5 ]
}
line_pods() { k get pods -o json | jq -c '[.items[] | [.metadata.uid, (.status.containerStatuses[] | .containerID, .restartCount)]] | sort'; }
# line_outage SECONDS [COMMAND…] : cuts the line, runs the command, and mends it. Sets OUTAGE_BYTES, OUTAGE_MS.
line_outage() {
  local seconds=$1 said pods before from connections
  shift
  pods=$(line_pods)
  said=$(line_ready)
  connections=$(line_connections)
  line_cut
  sleep "$seconds"
  [ $# = 0 ] || "$@"
  before=$(line_bytes)
  from=$(now_ms)
  line_mend
  wait_until 90 line_is_back "$said" "$connections" || die "the node was not Ready with its watches within 90 s of the line's return; log: $CLUSTER_LOG"
  OUTAGE_MS=$(($(now_ms) - from))
  sleep 2
  OUTAGE_BYTES=$(($(line_bytes) - before))
  [ "$pods" = "$(line_pods)" ] || die "pods were not the same after the outage; log: $CLUSTER_LOG"
}
line_restart_server() {
  kill -KILL "$LINE_SERVER_PID"
  wait "$LINE_SERVER_PID" 2>/dev/null || true
  line_start_server
}

# A day away costs what these seconds do. The node gives a request 30 s, then its watches are given up too: longer than that, no connection of before
# is left. Watches are resumed from their last revision, so what is told depends on what has changed meanwhile, not on how long it took; and
# what the node asks for by age (owners of its pods, its Node: after six hours) it does not ask for because it is back.
figure_reconnect() {
  local seconds=60 restarts
  line_cluster 10s
  restarts=$(line_restarts)
  [ "$BENCH_QUICK" = 0 ] || seconds=45
  line_outage $seconds
  note "reconnect: Ready with all watches after $OUTAGE_MS ms"
  row reconnect-bytes "$(calc "$OUTAGE_BYTES / 1000")" "KB, after $seconds s" "" "" "<" 20
  line_outage $seconds line_restart_server
  note "reconnect to another server process: Ready with all watches after $OUTAGE_MS ms"
  row reconnect-restarted-bytes "$(calc "$OUTAGE_BYTES / 1000")" "KB, after $seconds s" "" "" "<" 20
  row reconnect-restarts "$(($(line_restarts) - restarts))" containers "" "" "<=" 0
  # The watches are not only open: what changes now arrives.
  k scale deployment/idle --replicas=$((LINE_PODS + 1)) >/dev/null
  k rollout status deployment/idle --timeout=30s >/dev/null || die "a pod that was made after the outage did not become ready; log: $CLUSTER_LOG"
  k scale deployment/idle --replicas=$LINE_PODS >/dev/null
}

# --- images ---
REGISTRY_PID=
registry_stop() { # whatever runs
  [ -z "$REGISTRY_PID" ] || stop_pid "$REGISTRY_PID" 10 || return 1
  REGISTRY_PID=
}
# padded_module FILE BYTES : hello.wasm with a custom section (number 0, LEB128 size, name) of random bytes, which no compressor shortens.
padded_module() {
  local n=$(($2 + 8)) size=
  while [ $n -gt 127 ]; do
    size+=$(printf '\\x%02x' $((n & 127 | 128)))
    n=$((n >> 7))
  done
  size+=$(printf '\\x%02x' "$n")
  { cat "$BENCH_BUILD/guest/hello.wasm" && printf '%b' "\\x00$size\\x07padding" && head -c "$2" /dev/urandom; } >"$1"
}
# timed_us COMMAND… : how long it took, on stdout; what it says goes nowhere.
timed_us() {
  local from=$EPOCHREALTIME
  "$@" >/dev/null 2>"$BENCH_DIR/said" || die "$* failed: $(head -c 600 "$BENCH_DIR/said")"
  local to=$EPOCHREALTIME
  echo $((${to/./} - ${from/./}))
}
skopeo_copy() { # DOCKER_REFERENCE FOLDER : on the disk when it ends
  skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$1" "oci:$2:1" && find "$2" -print0 | xargs -0 sync
}
figure_pull() {
  local address=127.0.0.1 size=10000000 dir=$BENCH_DIR/pull rounds i skerry out
  rounds=$([ "$BENCH_QUICK" = 1 ] && echo 2 || echo 15)
  for i in docker-registry skopeo oras; do command -v "$i" >/dev/null || die "$i is not installed; run scripts/setup test."; done
  skerry=$BENCH_BUILD/bin/skerry
  mkdir "$dir"
  padded_module "$dir/app.wasm" $size
  address=127.0.0.1:$(free_port)
  cat >"$dir/registry.yml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $dir/registry}}
http: {addr: $address}
YAML
  docker-registry serve "$dir/registry.yml" >"$dir/registry.log" 2>&1 &
  REGISTRY_PID=$!
  wait_until 20 curl -s -o /dev/null "http://$address/v2/" || die "docker-registry does not answer: $(tail -n 5 "$dir/registry.log")"
  (cd "$dir" && oras push --plain-http "$address/app:1" app.wasm:application/wasm) >/dev/null
  printf 'mirrors: {"%s": {endpoint: ["http://%s"]}}\n' "$address" "$address" >"$dir/registries.yaml"
  out=$dir/times
  # The first also compiles the module. The others find its native code, as skopeo makes none; images are new to each.
  timed_us "$skerry" image pull "$address/app:1" --registries "$dir/registries.yaml" --data-dir "$dir/first" >"$out.compiled"
  for i in $(seq "$rounds"); do
    mkdir -m 700 "$dir/data" && cp -a "$dir/first/node" "$dir/data/node"
    sync
    timed_us "$skerry" image pull "$address/app:1" --registries "$dir/registries.yaml" --data-dir "$dir/data" >>"$out"
    rm -rf "$dir/data" && sync
    timed_us skopeo_copy "$address/app:1" "$dir/layout" >>"$out.skopeo"
    rm -rf "$dir/layout"
  done
  note "pull of 10 MB: $(median <"$out") µs, skopeo copy $(median <"$out.skopeo") µs; with the module's compilation $(cat "$out.compiled") µs"
  ratio_row pull "$(calc "$size / $(median <"$out")")" MB/s "skopeo copy to an OCI layout, synced" "$(calc "$size / $(median <"$out.skopeo")")" ">=" 0.8
  registry_stop
}
