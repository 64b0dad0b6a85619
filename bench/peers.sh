# SPDX-License-Identifier: Apache-2.0
# The peers that our figures stand beside, on the same machine and in the same run. Sourced by scripts/bench.
# shellcheck shell=bash

# --- crun: a container from nothing to its end, native and (by its wasmedge handler) the WASI module that we also serve ---
CRUN_DIR=
crun_prepare() {
  [ -z "$CRUN_DIR" ] || return 0
  command -v crun >/dev/null || die "crun, a peer of the cold start, is not installed; run scripts/setup bench."
  CRUN_DIR=$(mktemp -d /var/tmp/skerry-crun-XXXXXX)
  local kind
  for kind in native wasm; do mkdir -p "$CRUN_DIR/$kind/rootfs/proc" "$CRUN_DIR/$kind/rootfs/dev"; done
  echo 'int main(void) { return 0; }' | gcc-14 -O2 -static -x c - -o "$CRUN_DIR/native/rootfs/true"
  cp "$BENCH_BUILD/guest/edge-report.wasm" "$CRUN_DIR/wasm/rootfs/"
  jq -n '{ociVersion: "1.0.2", hostname: "peer",
    process: {terminal: false, user: {uid: 0, gid: 0}, args: ["/true"], env: ["PATH=/"], cwd: "/", noNewPrivileges: true,
      capabilities: {bounding: [], effective: [], permitted: []}},
    root: {path: "rootfs", readonly: true},
    mounts: [{destination: "/proc", type: "proc", source: "proc"},
      {destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755", "size=65536k"]}],
    linux: {resources: {memory: {limit: 536870912}, cpu: {quota: 50000, period: 100000}},
      namespaces: [{type: "pid"}, {type: "network"}, {type: "ipc"}, {type: "uts"}, {type: "mount"}]}}' >"$CRUN_DIR/native/config.json"
  jq '.process.args = ["/edge-report.wasm"] | .process.env = ["REQUEST_METHOD=GET"] | .annotations = {"run.oci.handler": "wasm"}' \
    "$CRUN_DIR/native/config.json" >"$CRUN_DIR/wasm/config.json"
  # crun refuses a machine that has cgroups of both versions: it is shown, in a mount namespace of its own, the v1 ones alone.
  cat >"$CRUN_DIR/time" <<'SCRIPT'
set -eu
dir=$1 kind=$2 rounds=$3
controllers=$(awk '{ for (i = 1; i <= NF; i++) if ($i == "-" && $(i + 1) == "cgroup") { o = $NF; sub(/^r[wo],/, "", o); if (o !~ /name=/) print o } }' /proc/self/mountinfo)
if [ -n "$controllers" ]; then
  mount -t tmpfs tmpfs /sys/fs/cgroup
  for c in $controllers; do
    mkdir -p "/sys/fs/cgroup/$c"
    mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/$c"
  done
fi
for i in $(seq "$rounds"); do
  from=$EPOCHREALTIME
  crun --root "$dir/state" run -b "$dir/$kind" "skerry-peer-$$-$i" >/dev/null
  to=$EPOCHREALTIME
  echo $((${to/./} - ${from/./}))
done
SCRIPT
}
# crun_times native|wasm ROUNDS : microseconds, one a line.
crun_times() {
  crun_prepare
  unshare -m bash "$CRUN_DIR/time" "$CRUN_DIR" "$1" "$2"
}

# --- nginx: one worker, `return 200` with the same 1 KB, in the pods' own network namespace, behind the same veth ---
NGINX_DIR=
NGINX_ADDRESS=
# last_address CIDR : the last one but a few of the range, which no pod has yet.
last_address() {
  local a b c d bits n
  IFS=./ read -r a b c d bits <<<"$1"
  n=$(((a << 24) + (b << 16) + (c << 8) + d + (1 << (32 - bits)) - 5))
  echo "$((n >> 24 & 255)).$((n >> 16 & 255)).$((n >> 8 & 255)).$((n & 255))"
}
nginx_start() {
  [ -z "$NGINX_DIR" ] || return 0
  command -v nginx >/dev/null || die "nginx, a peer of the hot path, is not installed; run scripts/setup bench."
  NGINX_DIR=$(mktemp -d /var/tmp/skerry-nginx-XXXXXX)
  NGINX_ADDRESS=$(last_address "$CLUSTER_POD_CIDR"):8080
  mkdir "$NGINX_DIR/temp"
  cat >"$NGINX_DIR/nginx.conf" <<CONF
worker_processes 1;
pid $NGINX_DIR/pid;
error_log $NGINX_DIR/error.log;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path $NGINX_DIR/temp; proxy_temp_path $NGINX_DIR/temp; fastcgi_temp_path $NGINX_DIR/temp;
  uwsgi_temp_path $NGINX_DIR/temp; scgi_temp_path $NGINX_DIR/temp;
  default_type text/plain;
  server { listen $NGINX_ADDRESS; location / { return 200 "$(head -c 1024 /dev/zero | tr '\0' x)"; } }
}
CONF
  nsenter --net="/run/skerry/$CLUSTER_ID" nginx -c "$NGINX_DIR/nginx.conf" -p "$NGINX_DIR" 2>"$NGINX_DIR/start.log" ||
    die "nginx did not start: $(cat "$NGINX_DIR/start.log" "$NGINX_DIR/error.log" 2>/dev/null)"
  wait_until 5 curl -sSf -o /dev/null "http://$NGINX_ADDRESS/" || die "nginx does not answer at $NGINX_ADDRESS."
}
nginx_pids() { ps -o pid= --ppid "$(cat "$NGINX_DIR/pid")"; }

# --- containerd: what a pod costs where each has a shim: the daemon, and N containers of a static program that sleeps ---
# This is the part of a K3s or kubelet node that has a counterpart in ours; kubelet itself (K3s is in no Debian) is not counted.
CONTAINERD_DIR=
CONTAINERD_PID=
CONTAINERD_BASE_KB=   # PSS of the daemon without any container
CONTAINERD_POD_KB=    # PSS of one more: shim and sleeping process
CONTAINERD_POD_MS=    # wall time of one more, `ctr run` one after another
peer_ctr() { ctr --address "$CONTAINERD_DIR/sock" --namespace "$(basename "$CONTAINERD_DIR")" "$@"; }
# An OCI image of one static program, made by hand: there is no registry to take one from.
pause_image() {
  local dir=$1/image layer config manifest digest size
  mkdir -p "$dir/blobs/sha256" "$dir/rootfs"
  printf '#include <unistd.h>\nint main(void) { for (;;) pause(); }\n' | gcc-14 -Os -static -x c - -o "$dir/rootfs/pause"
  blob() { # FILE : moves it to its place; sets digest and size
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    size=$(stat -c %s "$1")
    mv "$1" "$dir/blobs/sha256/$digest"
  }
  tar -C "$dir/rootfs" --owner=0 --group=0 -cf "$dir/layer" pause
  blob "$dir/layer"
  layer=$(jq -nc --arg d "sha256:$digest" --argjson s "$size" '{mediaType: "application/vnd.oci.image.layer.v1.tar", digest: $d, size: $s}')
  jq -nc --arg d "sha256:$digest" --arg a "$(dpkg --print-architecture)" \
    '{architecture: $a, os: "linux", config: {Cmd: ["/pause"]}, rootfs: {type: "layers", diff_ids: [$d]}}' >"$dir/config"
  blob "$dir/config"
  config=$(jq -nc --arg d "sha256:$digest" --argjson s "$size" '{mediaType: "application/vnd.oci.image.config.v1+json", digest: $d, size: $s}')
  jq -nc --argjson l "$layer" --argjson c "$config" \
    '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config: $c, layers: [$l]}' >"$dir/manifest"
  blob "$dir/manifest"
  jq -nc --arg d "sha256:$digest" --argjson s "$size" '{schemaVersion: 2, manifests: [{mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: $d, size: $s, annotations: {"io.containerd.image.name": "example.com/pause:1"}}]}' >"$dir/index.json"
  echo '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci-layout"
  tar -C "$dir" -cf "$1/pause.tar" oci-layout index.json blobs
}
containerd_start() {
  command -v containerd >/dev/null && command -v runc >/dev/null ||
    die "containerd and runc, peers of the memory figures, are not installed; run scripts/setup bench."
  CONTAINERD_DIR=$(mktemp -d /var/tmp/skerry-containerd-XXXXXX)
  cat >"$CONTAINERD_DIR/config.toml" <<CONF
version = 2
root = "$CONTAINERD_DIR/root"
state = "$CONTAINERD_DIR/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.blockfile", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri"]
[grpc]
  address = "$CONTAINERD_DIR/sock"
[ttrpc]
  address = "$CONTAINERD_DIR/sock.ttrpc"
CONF
  containerd --config "$CONTAINERD_DIR/config.toml" >"$CONTAINERD_DIR/log" 2>&1 &
  CONTAINERD_PID=$!
  wait_until 20 peer_ctr version || die "containerd does not answer: $(tail -n 3 "$CONTAINERD_DIR/log")"
  pause_image "$CONTAINERD_DIR"
  peer_ctr images import "$CONTAINERD_DIR/pause.tar" >/dev/null || die "containerd refuses the peer's image: $(tail -n 3 "$CONTAINERD_DIR/log")"
}
# The daemon, its shims (whose command line names the socket), and what runs below them.
containerd_pids() {
  local pid
  ps -eo pid=,args= | awk -v dir="$CONTAINERD_DIR/" -v me=$$ 'index($0, dir) && /^ *[0-9]+ [^ ]*containerd/ && $1 != me { print $1 }' |
    while read -r pid; do descendants "$pid"; done | sort -un
}
pss_kb() {
  local pid
  for pid in "$@"; do awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup" 2>/dev/null || true; done | awk '{ sum += $1 } END { print sum + 0 }'
}
# containerd_measure : once a run; sets the three figures above.
containerd_measure() {
  [ -z "$CONTAINERD_POD_KB" ] || return 0
  local pods=20 i from
  [ "$BENCH_QUICK" = 0 ] || pods=3
  containerd_start
  # The first container loads what every further one shares.
  peer_ctr run -d --null-io example.com/pause:1 first || die "containerd does not start a container: $(tail -n 3 "$CONTAINERD_DIR/log")"
  peer_ctr tasks kill -s KILL first && wait_until 10 containerd_stopped && peer_ctr containers rm first
  sleep 2
  # shellcheck disable=SC2046
  CONTAINERD_BASE_KB=$(pss_kb $(containerd_pids))
  from=$(now_ms)
  for i in $(seq "$pods"); do
    peer_ctr run -d --null-io example.com/pause:1 "pod-$i" || die "containerd does not start container $i: $(tail -n 3 "$CONTAINERD_DIR/log")"
  done
  CONTAINERD_POD_MS=$(awk -v ms=$(($(now_ms) - from)) -v n="$pods" 'BEGIN { printf "%.1f", ms / n }')
  sleep 2
  # shellcheck disable=SC2046
  CONTAINERD_POD_KB=$(awk -v a="$CONTAINERD_BASE_KB" -v b="$(pss_kb $(containerd_pids))" -v n="$pods" 'BEGIN { printf "%.0f", (b - a) / n }')
  note "containerd $(containerd --version | awk '{ print $3 }'): daemon $CONTAINERD_BASE_KB kB, one more pod (shim and pause) $CONTAINERD_POD_KB kB and $CONTAINERD_POD_MS ms; PSS over $pods pods"
  containerd_stop
}
containerd_stopped() { ! peer_ctr tasks ls | grep -q RUNNING; }
containerd_stop() {
  [ -n "$CONTAINERD_DIR" ] || return 0
  local name pids pid sockets mounts cgroup
  name=$(basename "$CONTAINERD_DIR")
  sockets=$(cat "$CONTAINERD_DIR"/state/*/"$name"/*/address 2>/dev/null | sed -nE 's|unix://(/run/containerd/s/[0-9a-f]+)|\1\n|gp' || true)
  pids=$(containerd_pids)
  # shellcheck disable=SC2086
  [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
  [ -z "$CONTAINERD_PID" ] || wait "$CONTAINERD_PID" 2>/dev/null || true
  for pid in $pids; do wait_until 5 process_gone "$pid" || true; done
  mounts=$(awk -v dir="$CONTAINERD_DIR/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r)
  # shellcheck disable=SC2086
  [ -z "$mounts" ] || umount $mounts 2>/dev/null || true
  for cgroup in $(find /sys/fs/cgroup -maxdepth 2 -type d -name "$name" 2>/dev/null); do
    find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  done
  # shellcheck disable=SC2086
  rm -rf "$CONTAINERD_DIR" "/run/containerd/runc/$name" $sockets
  CONTAINERD_DIR=
  CONTAINERD_PID=
}

peers_stop() {
  local pid
  containerd_stop
  if [ -n "$NGINX_DIR" ] && [ -f "$NGINX_DIR/pid" ]; then
    pid=$(cat "$NGINX_DIR/pid")
    kill -TERM "$pid" 2>/dev/null || true
    wait_until 5 process_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
  fi
  [ -z "$NGINX_DIR" ] || rm -rf "$NGINX_DIR"
  [ -z "$CRUN_DIR" ] || rm -rf "$CRUN_DIR"
  NGINX_DIR=
  CRUN_DIR=
}
