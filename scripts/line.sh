# SPDX-License-Identifier: Apache-2.0
# `skerry server` and `skerry node` at the two ends of a line that can be cut: two network namespaces joined by a veth pair. Source
# it after cluster.sh, whose `k` then speaks to the server, and whose stop_cluster is called by line_stop.
# shellcheck shell=bash disable=SC2034
#
#   line_start BUILD_FOLDER [skerry node's options…]   server and node, Ready; sets what start_cluster sets, LINE_SERVER, LINE_NODE
#   line_cut, line_mend            nothing goes through, and nobody is told
#   line_start_server, line_kill_server, line_start_node, line_kill_node
#   line_reboot                    the node's machine loses its power and starts again: no process, no address, no rule is left
#   line_stop                      ends it; removes what it left behind, names it and fails. For a trap, with any exit
#
# Bytes are those of IP packets in both directions, counted at the node's end.

LINE_SERVER='' LINE_NODE='' # names of the two namespaces, while they are there
LINE_SERVER_PID='' LINE_NODE_PID=''
LINE_IS_CUT=0
LINE_OPTIONS=() LINE_RANGES=()

# In the foreground; what runs in the background needs nsenter itself, so that $! is its pid and not that of a shell.
on_server() { nsenter "--net=/run/netns/$LINE_SERVER" "$@"; }
on_node() { nsenter "--net=/run/netns/$LINE_NODE" "$@"; }

line_start() {
  local range build=$1
  shift
  SKERRY=$(cd "$build" && pwd)/bin/skerry
  [ -x "$SKERRY" ] || die "there is no $SKERRY; build it first: cmake --preset release && cmake --build --preset release"
  range=$(free_ranges)
  CLUSTER_DIR=$(mktemp -d /var/tmp/skerry-XXXXXX)
  CLUSTER_ID=$(basename "$CLUSTER_DIR")
  CLUSTER_LOG=$CLUSTER_DIR/log
  CLUSTER_POD_CIDR=10.$range.0.0/16
  CLUSTER_NODE_API=192.0.2.2:10250
  LINE_SERVER=$CLUSTER_ID-server
  ip netns add "$LINE_SERVER"
  CLUSTER_ENTER=/run/netns/$LINE_SERVER
  LINE_NODE=$CLUSTER_ID-node
  line_lay
  LINE_OPTIONS=("$@")
  LINE_RANGES=(--pod-cidr "$CLUSTER_POD_CIDR" --service-cidr "10.$((range + 1)).0.0/16")
  line_start_server
  local part
  for part in certificate key; do
    k config view --raw -o json | jq -r ".users[0].user.\"client-$part-data\"" | base64 -d >"$CLUSTER_DIR/admin.$part"
  done
  line_start_node
  wait_until 30 node_is_ready || die "the node did not become Ready within 30 s (log: $CLUSTER_LOG)."
}
# The node's namespace, and the line to it. Segments of one packet each, so that every header is counted; and no ARP between the two.
line_lay() {
  local space
  ip netns add "$LINE_NODE"
  for space in "$LINE_SERVER" "$LINE_NODE"; do
    nsenter "--net=/run/netns/$space" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
    ip -n "$space" link set lo up
  done
  ip -n "$LINE_SERVER" link add line address 02:00:00:00:00:01 gso_max_segs 1 type veth peer name line address 02:00:00:00:00:02 gso_max_segs 1 netns "$LINE_NODE"
  ip -n "$LINE_SERVER" address add 192.0.2.1/30 dev line
  ip -n "$LINE_NODE" address add 192.0.2.2/30 dev line
  ip -n "$LINE_SERVER" link set line up
  ip -n "$LINE_NODE" link set line up
  ip -n "$LINE_SERVER" neighbor replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev line nud permanent
  ip -n "$LINE_NODE" neighbor replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev line nud permanent
  ip -n "$LINE_NODE" route add default via 192.0.2.1
}

line_start_server() {
  local before
  before=$(grep -c 'server is ready' "$CLUSTER_LOG" 2>/dev/null || true)
  nsenter "--net=/run/netns/$LINE_SERVER" "$SKERRY" server --data-dir "$CLUSTER_DIR/data" --listen 192.0.2.1:6443 --node-name edge "${LINE_RANGES[@]}" >>"$CLUSTER_LOG" 2>&1 &
  LINE_SERVER_PID=$!
  wait_until 30 line_says "server is ready" "${before:-0}" || die "the server did not become ready within 30 s (log: $CLUSTER_LOG)."
}
line_start_node() {
  local before
  before=$(grep -c 'skerry is ready' "$CLUSTER_LOG" 2>/dev/null || true)
  nsenter "--net=/run/netns/$LINE_NODE" "$SKERRY" node --data-dir "$CLUSTER_DIR/data" --node-name edge --node-address 192.0.2.2 "${LINE_RANGES[@]}" \
    --pod-namespace "$CLUSTER_ID" --cgroup "$CLUSTER_ID" --overcommit cpu=100,memory=100 --on-exit stop "${LINE_OPTIONS[@]}" >>"$CLUSTER_LOG" 2>&1 &
  LINE_NODE_PID=$!
  wait_until 30 line_says "skerry is ready" "${before:-0}" || die "the node did not start within 30 s (log: $CLUSTER_LOG)."
}
line_says() { [ "$(grep -c "$1" "$CLUSTER_LOG")" -gt "$2" ]; }
line_kill_server() {
  kill -KILL "$LINE_SERVER_PID"
  wait "$LINE_SERVER_PID" 2>/dev/null || true
}
line_kill_node() { # the agent alone
  kill -KILL "$LINE_NODE_PID"
  wait "$LINE_NODE_PID" 2>/dev/null || true
}

# line_power_cut : kill -9 of everything on the node's machine, and nothing of it is left in the kernel.
line_power_cut() {
  kill_at_once line_machine_pids "$LINE_NODE_PID"
  [ ! -e "/run/skerry/$CLUSTER_ID" ] || { umount "/run/skerry/$CLUSTER_ID" && rm -f "/run/skerry/$CLUSTER_ID"; }
  ip -n "$LINE_SERVER" link del line # both ends: sockets that still wait for answers may keep the namespace for a minute
  ip netns del "$LINE_NODE"
  # shellcheck disable=SC2046
  find $(find /sys/fs/cgroup -maxdepth 3 -type d -name "$CLUSTER_ID") -depth -type d -exec rmdir {} + 2>/dev/null || true
  line_lay
  [ $LINE_IS_CUT = 0 ] || line_cut
}
line_machine_pids() { { line_node_pids; cgroup_pids; } | sort -nu; }
line_reboot() {
  line_power_cut
  line_start_node
}

line_cut() {
  LINE_IS_CUT=1
  on_node nft "add table ip cut; add chain ip cut in { type filter hook input priority 0; }; add chain ip cut out { type filter hook output priority 0; }; add rule ip cut in iifname line drop; add rule ip cut out oifname line drop"
}
line_mend() {
  LINE_IS_CUT=0
  on_node nft delete table ip cut
}

line_stop() {
  local rc=0 space
  [ -n "$LINE_SERVER" ] || return 0
  [ -z "$LINE_NODE_PID" ] || stop_pid "$LINE_NODE_PID" 30 || rc=1
  [ -z "$LINE_SERVER_PID" ] || stop_pid "$LINE_SERVER_PID" 30 || rc=1
  LINE_NODE_PID='' LINE_SERVER_PID='' CLUSTER_ENTER=''
  stop_cluster || rc=1
  for space in "$LINE_SERVER" "$LINE_NODE"; do [ ! -e "/run/netns/$space" ] || ip netns del "$space" || rc=1; done
  LINE_SERVER='' LINE_NODE='' LINE_IS_CUT=0
  return $rc
}

line_bytes() { ip -n "$LINE_NODE" -s -j link show line | jq '.[0].stats64 | .rx.bytes + .tx.bytes - 14 * (.rx.packets + .tx.packets)'; }
line_packets() { ip -n "$LINE_NODE" -s -j link show line | jq '.[0].stats64 | .rx.packets + .tx.packets'; }
# The agent with the keeper and whatever it holds: all but the server.
line_node_pids() { cluster_pids | grep -vxF -e "$LINE_SERVER_PID" || true; }
# node_metric NAME : of the node's own API, from its own machine: it answers while the line is cut.
node_metric() {
  on_node curl -sS --fail --max-time 5 -k --cert "$CLUSTER_DIR/admin.certificate" --key "$CLUSTER_DIR/admin.key" "https://$CLUSTER_NODE_API/metrics" | awk -v name="$1" '$1 == name { print $2 }'
}
