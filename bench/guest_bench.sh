#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# skerry-bench-guest [ROUNDS [SECONDS]]: the guest side of a sandbox alone, on loopback, one worker, wrk -c64, a 1 KB body; nginx
# with one worker and `return 200` in turn. One JSON object a line, medians over the rounds. CPU per request is the server
# process' own time on the CPU (schedstat), so it holds on a busy machine too; requests/s and P99 need a quiet one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rounds=${1:-5} seconds=${2:-3}
work=$(mktemp -d /tmp/skerry-bench-guest-XXXXXX)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

serve() { # serve NAME [option …] → sets pid and port
  "$here/skerry-guest-serve" "$here/static.so" "${@:2}" >"$work/$1.port" 2>"$work/$1.err" &
  pid=$!
  pids+=("$pid")
  for _ in $(seq 100); do [ -s "$work/$1.port" ] && break; sleep 0.05; done
  port=$(cat "$work/$1.port")
  [ -n "$port" ] || { cat "$work/$1.err" >&2; exit 1; }
}
cpu_ns() { awk '{print $1}' "/proc/$1/schedstat"; }
# "µs CPU per request, P99 µs, requests/s"
round() { # round PID PORT
  local before after
  before=$(cpu_ns "$1")
  wrk -c64 -t1 -d"$seconds" --latency "http://127.0.0.1:$2/" >"$work/wrk"
  after=$(cpu_ns "$1")
  awk -v ns=$((after - before)) '
    /99%/ { p = $2; f = p ~ /us$/ ? 1 : p ~ /ms$/ ? 1000 : 1000000; sub(/[a-z]+$/, "", p); p99 = p * f }
    /requests in/ { n = $1 }
    /Requests\/sec/ { rate = $2 }
    END { printf "%.2f %.0f %.0f\n", ns / 1000 / n, p99, rate }' "$work/wrk"
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
column() { awk -v c="$2" '{print $c}' "$work/$1.rounds" | median; }
row() { # row NAME VALUE UNIT PEER PEER_VALUE OPERATOR BOUND COMPARED
  local ratio=null
  [ -n "$5" ] && ratio=$(awk -v a="$2" -v b="$5" 'BEGIN {printf "%.3f", a / b}')
  local against=$2
  [ "$8" = ratio ] && against=$ratio
  local ok
  ok=$(awk -v v="$against" -v b="$7" -v o="$6" 'BEGIN {print (o == "<=" ? v + 0 <= b + 0 : v + 0 >= b + 0) ? "true" : "false"}')
  printf '{"name":"%s","value":%s,"unit":"%s","peer":"%s","peer_value":%s,"ratio":%s,"reach":"%s %s","ok":%s}\n' \
    "$1" "$2" "$3" "$4" "${5:-null}" "$ratio" "$6" "$7" "$ok"
}

body=$(printf 'x%.0s' $(seq 1024))
cat >"$work/nginx.conf" <<CONF
worker_processes 1; daemon off; pid $work/nginx.pid; error_log $work/nginx.log;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 1000000000;
  server { listen 127.0.0.1:${SKERRY_BENCH_NGINX_PORT:-18089}; location / { default_type text/plain; return 200 "$body"; } } }
CONF
nginx -c "$work/nginx.conf" -p "$work" 2>/dev/null &
pids+=($!)
sleep 0.5
nginx_worker=$(pgrep -P "${pids[0]}" | head -1)
serve reused; reused_pid=$pid reused_port=$port
serve fresh --fresh; fresh_pid=$pid fresh_port=$port

for _ in $(seq "$rounds"); do
  round "$nginx_worker" "${SKERRY_BENCH_NGINX_PORT:-18089}" >>"$work/nginx.rounds"
  round "$reused_pid" "$reused_port" >>"$work/reused.rounds"
  round "$fresh_pid" "$fresh_port" >>"$work/fresh.rounds"
done
row guest-hot-cpu "$(column reused 1)" "µs/request" "nginx return 200" "$(column nginx 1)" "<=" 1.1 ratio
row guest-hot-p99 "$(column reused 2)" "µs" "nginx return 200" "$(column nginx 2)" "<=" 1.5 ratio
row guest-fresh-rate "$(column fresh 3)" "requests/s" "the same, instance reused" "$(column reused 3)" ">=" 45000 value
row guest-fresh-cpu "$(column fresh 1)" "µs/request" "the same, instance reused" "$(column reused 1)" "<=" 22.2 value
