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

peers_stop() {
  local pid
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
