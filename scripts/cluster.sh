# SPDX-License-Identifier: Apache-2.0
# A cluster of one machine for the length of a script: demo, bench and the end-to-end tests source this after lib.sh.
# shellcheck shell=bash
#
#   start_cluster BUILD_FOLDER [skerry up's options…]      sets CLUSTER_DIR, CLUSTER_PID, CLUSTER_NODE, SKERRY; then use `k`
#   stop_cluster                                           ends it; removes what it left behind, names it and fails
#
# Its ports, addresses, network namespace and control group are its own, so that it meets neither a cluster that the
# machine already runs nor another script's. Set the trap yourself:  trap stop_cluster EXIT

CLUSTER_PID=
CLUSTER_DIR=

# The stock kubectl on this cluster, with a cache of its own.
# CLUSTER_ENTER names the network namespace from which its API is reached, where that is not this one.
CLUSTER_ENTER=
k() {
  ${CLUSTER_ENTER:+nsenter "--net=$CLUSTER_ENTER"} kubectl --kubeconfig "$CLUSTER_DIR/data/admin.kubeconfig" --cache-dir "$CLUSTER_DIR/kube-cache" "$@"
}

# kubectl on the node's own loopback.
kl() { kubectl --kubeconfig "$CLUSTER_DIR/data/node/local.kubeconfig" --cache-dir "$CLUSTER_DIR/kube-cache" "$@"; }

# A pair of ranges 10.N.0.0/16 and 10.N+1.0.0/16 that no route of this machine goes to.
free_ranges() {
  local n taken
  taken=$(ip -4 route show table all 2>/dev/null | grep -oE '10\.[0-9]+\.' | sort -u || true)
  for n in $(seq 100 2 248 | shuf); do
    grep -qxE "10\.($n|$((n + 1)))\." <<<"$taken" || {
      echo "$n"
      return
    }
  done
  die "every range between 10.100.0.0 and 10.249.0.0 is routed already; there is none for pods and Services."
}

start_cluster() {
  local build=$1 range
  shift
  SKERRY=$(cd "$build" && pwd)/bin/skerry
  [ -x "$SKERRY" ] || die "there is no $SKERRY; build it first: cmake --preset release && cmake --build --preset release"
  CLUSTER_DIR=$(mktemp -d /var/tmp/skerry-XXXXXX)
  CLUSTER_ID=$(basename "$CLUSTER_DIR")
  range=$(free_ranges)
  CLUSTER_LOG=$CLUSTER_DIR/log
  CLUSTER_API=127.0.0.1:$(free_port)
  CLUSTER_NODE_PORT=$(free_port)
  while [ "$CLUSTER_API" = "127.0.0.1:$CLUSTER_NODE_PORT" ]; do CLUSTER_NODE_PORT=$(free_port); done
  CLUSTER_LOCAL_PORT=$(free_port)
  while [ "$CLUSTER_API" = "127.0.0.1:$CLUSTER_LOCAL_PORT" ] || [ "$CLUSTER_NODE_PORT" = "$CLUSTER_LOCAL_PORT" ]; do CLUSTER_LOCAL_PORT=$(free_port); done
  CLUSTER_POD_CIDR=10.$range.0.0/16
  CLUSTER_OPTIONS=(--data-dir "$CLUSTER_DIR/data" --listen "$CLUSTER_API" --port "$CLUSTER_NODE_PORT" --local-port "$CLUSTER_LOCAL_PORT"
    --pod-cidr "$CLUSTER_POD_CIDR" --service-cidr "10.$((range + 1)).0.0/16"
    --pod-namespace "$CLUSTER_ID" --cgroup "$CLUSTER_ID" "$@")
  launch_cluster
}

# Starts `skerry up` on the folder that start_cluster made; also after a test has ended it.
launch_cluster() {
  local ready_before
  ready_before=$(grep -c 'skerry is ready' "$CLUSTER_LOG" 2>/dev/null || true)
  "$SKERRY" up "${CLUSTER_OPTIONS[@]}" >>"$CLUSTER_LOG" 2>&1 &
  CLUSTER_PID=$!
  if ! wait_until 60 cluster_says_ready "${ready_before:-0}"; then
    tail -n 40 "$CLUSTER_LOG" >&2
    die "skerry up did not become ready within 60 s; the end of its log is above."
  fi
  process_gone "$CLUSTER_PID" && {
    tail -n 40 "$CLUSTER_LOG" >&2
    die "skerry up ended at once; its log, with the reason, is above."
  }
  wait_until 30 node_is_ready || die "the node did not become Ready within 30 s (log: $CLUSTER_LOG)."
  # shellcheck disable=SC2034
  CLUSTER_NODE=$(k get nodes -o name | head -n 1)
  CLUSTER_NODE_API=$(k get "$CLUSTER_NODE" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}'):$CLUSTER_NODE_PORT
  local part
  for part in certificate key; do
    k config view --raw -o json | jq -r ".users[0].user.\"client-$part-data\"" | base64 -d >"$CLUSTER_DIR/admin.$part"
  done
}
# kill_at_once COMMAND CHILD : of the processes that it prints (CHILD is this shell's own) all are stopped before any is killed: nobody sees another's end and starts it again.
kill_at_once() {
  local left='' known
  while known=$left && left=$("$1") && [ "$left" != "$known" ]; do
    # shellcheck disable=SC2086
    kill -STOP $left 2>/dev/null || true
  done
  while left=$("$1") && [ -n "$left" ]; do
    # shellcheck disable=SC2086
    kill -KILL $left 2>/dev/null || true
    wait "$2" 2>/dev/null || true
  done
}
# What the node's control groups hold is the node's too, also where its parent is gone.
cgroup_pids() { find /sys/fs/cgroup -path "*/$CLUSTER_ID/*" -name cgroup.procs -exec cat {} + 2>/dev/null || true; }
machine_pids() { { cluster_pids; cgroup_pids; } | sort -nu; }

# lose_power : kill -9 of everything that the cluster runs, and nothing of it is left in the kernel: as a machine that starts again.
lose_power() {
  kill_at_once machine_pids "$CLUSTER_PID"
  [ ! -e "/run/skerry/$CLUSTER_ID" ] || { umount "/run/skerry/$CLUSTER_ID" && rm -f "/run/skerry/$CLUSTER_ID"; }
  # The kernel takes the link away by itself with its namespace, a moment after the last process of that.
  ip link del "$CLUSTER_ID" 2>/dev/null || ! ip link show "$CLUSTER_ID" >/dev/null 2>&1 || die "the link $CLUSTER_ID cannot be removed."
  ! nft list table ip "${CLUSTER_ID//-/_}" >/dev/null 2>&1 || nft delete table ip "${CLUSTER_ID//-/_}"
  # shellcheck disable=SC2046
  find $(find /sys/fs/cgroup -maxdepth 3 -type d -name "$CLUSTER_ID") -depth -type d -exec rmdir {} + 2>/dev/null || true
  CLUSTER_PID=
}
# launch_node_alone : the node of the folder that start_cluster made, without any control plane. launch_cluster brings that back.
launch_node_alone() {
  local i options=() before
  for ((i = 0; i < ${#CLUSTER_OPTIONS[@]}; i += 2)); do [ "${CLUSTER_OPTIONS[i]}" = --listen ] || options+=("${CLUSTER_OPTIONS[i]}" "${CLUSTER_OPTIONS[i + 1]}"); done
  before=$(grep -c 'skerry is ready' "$CLUSTER_LOG" 2>/dev/null || true)
  "$SKERRY" node "${options[@]}" >>"$CLUSTER_LOG" 2>&1 &
  CLUSTER_PID=$!
  wait_until 60 cluster_says_ready "$before" || die "skerry node did not start within 60 s (log: $CLUSTER_LOG)."
  ! process_gone "$CLUSTER_PID" || die "skerry node ended at once; the end of its log: $(tail -n 5 "$CLUSTER_LOG")"
}
# node_get PATH : from the node's own API, as the administrator.
node_get() {
  curl -sS --fail --max-time 5 -k --cert "$CLUSTER_DIR/admin.certificate" --key "$CLUSTER_DIR/admin.key" "https://$CLUSTER_NODE_API$1"
}
# awake_pods : how many pods have a process now; -1 if the node does not say.
awake_pods() {
  { node_get /metrics || true; } | awk '$1 ~ /^skerry_(pods|agent_containers)_awake$/ { seen = 1; n = $2 } END { print seen ? n : -1 }'
}
cluster_says_ready() {
  process_gone "$CLUSTER_PID" && return 0
  [ "$(grep -c 'skerry is ready' "$CLUSTER_LOG" 2>/dev/null || true)" -gt "$1" ]
}
node_is_ready() { k get nodes -o jsonpath='{.items[*].status.conditions[?(@.type=="Ready")].status}' | grep -q True; }

# Every process of this cluster, one id a line: what `skerry up` started, whatever names its folder, and their children.
cluster_pids() {
  ps -eo pid=,ppid=,args= | awk -v up="${CLUSTER_PID:-0}" -v dir="$CLUSTER_DIR/" -v me=$$ '
    { pid[NR] = $1; parent[$1] = $2; text = $0; if ($1 == up || (index(text, dir) && text !~ /kubectl|awk|tail/)) ours[$1] = 1 }
    END {
      delete ours[me]
      do {
        grew = 0
        for (i = 1; i <= NR; i++) if (!(pid[i] in ours) && (parent[pid[i]] in ours)) { ours[pid[i]] = 1; grew = 1 }
      } while (grew)
      for (p in ours) print p
    }' | sort -n
}

# process_name PID : the program and its first word: "skerry node", "skerry-sandbox keeper".
process_name() {
  local program word
  program=$(basename "$(readlink "/proc/$1/exe" 2>/dev/null)")
  word=$({ tr '\0' '\n' <"/proc/$1/cmdline"; } 2>/dev/null | sed -n 2p || true)
  echo "${program% (deleted)}${word:+ ${word%%[ =]*}}"
}

# cluster_memory : one line a kind of process: name, how many, PSS in kB. Idle parked slots count like everything else.
cluster_memory() {
  local pid pss name
  cluster_pids | while read -r pid; do
    pss=$(awk '/^Pss:/ {print $2}' "/proc/$pid/smaps_rollup" 2>/dev/null) || continue
    [ -n "$pss" ] || continue
    printf '%s\t%s\n' "$pss" "$(process_name "$pid")"
  done | awk -F'\t' '{ sum[$2] += $1; count[$2]++ } END { for (n in sum) printf "%s\t%d\t%d\n", n, count[n], sum[n] }' | sort
}
cluster_pss_kb() { cluster_memory | awk -F'\t' '{ sum += $3 } END { print sum + 0 }'; }

# Ends the cluster. Fails, and names it, if a process, a namespace, a control group or a table stayed behind.
stop_cluster() {
  local rc=0 left pid
  [ -n "$CLUSTER_DIR" ] || return 0
  if [ -n "$CLUSTER_PID" ]; then
    stop_pid "$CLUSTER_PID" 30 || rc=1
    CLUSTER_PID=
  fi
  left=$(cluster_pids)
  if [ -n "$left" ]; then
    say "processes that skerry up left behind:"
    for pid in $left; do say "  $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"; done
    # shellcheck disable=SC2086
    kill -KILL $left 2>/dev/null || true
    rc=1
  fi
  if [ -e "/run/skerry/$CLUSTER_ID" ]; then
    say "skerry up left the network namespace /run/skerry/$CLUSTER_ID behind; removing it"
    umount "/run/skerry/$CLUSTER_ID" && rm -f "/run/skerry/$CLUSTER_ID"
    rc=1
  fi
  if ip link show "$CLUSTER_ID" >/dev/null 2>&1; then
    say "skerry up left the link $CLUSTER_ID behind; removing it"
    ip link del "$CLUSTER_ID" || true
    rc=1
  fi
  if nft list table ip "${CLUSTER_ID//-/_}" >/dev/null 2>&1; then
    say "skerry up left the nftables table ${CLUSTER_ID//-/_} behind; removing it"
    nft delete table ip "${CLUSTER_ID//-/_}" || true
    rc=1
  fi
  left=$(find /sys/fs/cgroup -maxdepth 3 -type d -name "$CLUSTER_ID" 2>/dev/null || true)
  if [ -n "$left" ]; then
    say "skerry up left control groups behind: $left; removing them"
    # shellcheck disable=SC2086
    find $left -depth -type d -exec rmdir {} + 2>/dev/null || true
    rc=1
  fi
  if [ $rc = 0 ] && [ "${KEEP:-0}" = 0 ]; then
    rm -rf "$CLUSTER_DIR"
  else
    say "its folder is kept: $CLUSTER_DIR"
  fi
  CLUSTER_DIR=
  return $rc
}
