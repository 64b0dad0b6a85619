#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: Services and pods have names on the node: for dig, for the C library's resolver with its search lists, from the host and
# from the pods' network, for the world outside by way of an upstream, and all the same without upstream, API server and after
# a start of the agent alone.
# Method: the edge service a hundred times, a headless Service over it, dnsmasq as the upstream on a loopback address.
#                                                                               tests/e2e/names.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:?the build folder}" && pwd)
require_root "pods get namespaces, and the upstream listens on port 53"
for program in dig dnsmasq; do command -v $program >/dev/null || die "$program is missing; run scripts/setup test."; done

work=$(mktemp -d /tmp/skerry-names-XXXXXX)
upstream=
node=
finish() {
  local rc=$?
  [ -z "$node" ] || stop_pid "$node" 10 || rc=1
  [ -z "$upstream" ] || stop_pid "$upstream" 5 || rc=1
  stop_cluster || rc=1
  rm -rf "$work"
  exit $rc
}
trap finish EXIT

# ask NAME TYPE [dig's options…] : the answers, one a line; status NAME TYPE: NOERROR and so on, with the flag tc if it is set.
ask() { dig "@$dns" +time=3 +tries=2 +short "$@"; }
status() { dig "@$dns" +time=6 +tries=1 "$@" | awk '/status:/ { sub(/,/, "", $6); code = $6 } /flags:/ && !flags { flags = $0; tc = / tc[ ;]/ ? " tc" : "" } END { print code tc }'; }
answers() { dig "@$dns" +time=3 +tries=2 +noall +answer "$@" | wc -l; }
is() { [ "$(ask "${@:2}")" = "$1" ]; }
count_is() { [ "$(answers "${@:2}")" = "$1" ]; }
# inside COMMAND… : as a program whose /etc/resolv.conf is the node's.
inside() {
  # shellcheck disable=SC2016
  unshare -m sh -c 'mount --make-rprivate / && mount --bind "$0" /etc/resolv.conf && exec "$@"' "$CLUSTER_DIR/data/node/resolv.conf" "$@"
}
start_upstream() {
  dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --listen-address="$upstream_address" \
    --pid-file= --user=root --host-record=www.skerry.test,192.0.2.7 --address=/no.skerry.test/ "${many[@]}" >"$work/dnsmasq.log" 2>&1 &
  upstream=$!
  wait_until 10 dig "@$upstream_address" +time=1 +tries=1 www.skerry.test || fail "dnsmasq does not answer: $(cat "$work/dnsmasq.log")"
}

# --- a cluster with an upstream of its own ------------------------------------------------------------------------------
upstream_address=127.$((RANDOM % 200 + 20)).$((RANDOM % 250 + 1)).$((RANDOM % 250 + 1))
many=()
for i in $(seq 1 120); do many+=(--host-record="many.skerry.test,192.0.2.$i"); done
start_upstream
echo "nameserver $upstream_address" >"$work/upstream.conf"
start_cluster "$build" --resolv-conf "$work/upstream.conf"
dns=$(awk '$1 == "nameserver" { print $2 }' "$CLUSTER_DIR/data/node/resolv.conf")
"$SKERRY" image add "$build/guest/edge-service.wasm" registry.example.com/edge-service:latest --data-dir "$CLUSTER_DIR/data" >&2
k label --overwrite "$CLUSTER_NODE" node-type=edge >&2
k apply -f "$SKERRY_TOP/deploy/examples/edge-service" >&2
k apply -f - >&2 <<END
apiVersion: v1
kind: Service
metadata: {name: edge-pods}
spec:
  clusterIP: None
  selector: {app: edge-service}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: hosts}
spec:
  clusterIP: None
  selector: {app: hosts}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: hosts}}
spec:
  hostname: first
  subdomain: hosts
  nodeSelector: {node-type: edge}
  containers: [{name: app, image: "registry.example.com/edge-service:latest", imagePullPolicy: IfNotPresent, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: www.skerry.test}
---
apiVersion: v1
kind: Service
metadata: {name: names, namespace: kube-system}
spec:
  clusterIP: $dns
  selector: {app: edge-service}
  ports: [{name: dns, port: 53, protocol: UDP, targetPort: 8080}]
END
k rollout status deployment/edge-service --timeout=120s >&2
k wait --for=condition=Ready pod/one --timeout=60s >&2
zone=cluster.local
ip=$(k get service edge-service -o jsonpath='{.spec.clusterIP}')
pod_ip=$(k get pod one -o jsonpath='{.status.podIP}')
reverse() { awk -F. '{ print $4 "." $3 "." $2 "." $1 ".in-addr.arpa" }' <<<"$1"; }
wait_until 20 count_is 100 edge-pods.default.svc.$zone A +tcp || fail "the headless Service has $(answers edge-pods.default.svc.$zone A +tcp) addresses instead of 100"

test_case "a Service has its name, and nothing else has"
expect "$ip" "$(ask edge-service.default.svc.$zone A)"
expect "$ip" "$(ask EDGE-service.DEFAULT.svc.$zone A)"
expect "$ip" "$(ask edge-service.default.svc.$zone A +tcp)"
expect "$(k get service kubernetes -o jsonpath='{.spec.clusterIP}')" "$(ask kubernetes.default.svc.$zone A)"
expect "NOERROR" "$(status edge-service.default.svc.$zone AAAA)"
expect "" "$(ask edge-service.default.svc.$zone AAAA)"
expect "0 100 80 edge-service.default.svc.$zone." "$(ask _http._tcp.edge-service.default.svc.$zone SRV)"
expect "edge-service.default.svc.$zone." "$(ask "$(reverse "$ip")" PTR)"
expect '"1.1.0"' "$(ask dns-version.$zone TXT)"
expect "NXDOMAIN" "$(status none.default.svc.$zone A)"
expect_text "SOA.*ns.dns.$zone. hostmaster.$zone." "$(dig "@$dns" +noall +authority none.default.svc.$zone A)"
expect "NOERROR" "$(status default.svc.$zone A)"
expect "NXDOMAIN" "$(status "$(reverse "${CLUSTER_POD_CIDR%.0/*}.250")" PTR)"

test_case "a headless Service is its pods; a hundred do not fit into a datagram"
expect "NOERROR tc" "$(status edge-pods.default.svc.$zone A +ignore +noedns)"
expect "NOERROR tc" "$(status edge-pods.default.svc.$zone A +ignore +bufsize=4096)"
expect "100" "$(answers edge-pods.default.svc.$zone A)" # dig comes back by TCP
expect "100" "$(answers _http._tcp.edge-pods.default.svc.$zone SRV)"
expect "$pod_ip" "$(ask hosts.default.svc.$zone A)"
expect "$pod_ip" "$(ask first.hosts.default.svc.$zone A)"
expect "0 100 8080 first.hosts.default.svc.$zone." "$(ask _http._tcp.hosts.default.svc.$zone SRV)"
expect_text "first.hosts.default.svc.$zone.*A.*$pod_ip" "$(dig "@$dns" +noall +additional _http._tcp.hosts.default.svc.$zone SRV)"
expect "first.hosts.default.svc.$zone." "$(ask "$(reverse "$pod_ip")" PTR)"
expect "$pod_ip" "$(ask "${pod_ip//./-}".default.pod.$zone A)"

test_case "what is no question for it is refused"
expect "REFUSED" "$(status $zone AXFR +noall +comments +tcp 2>/dev/null || true)"
expect "REFUSED" "$(status version.bind TXT CH)"
expect "NOTIMP" "$(status $zone SOA +opcode=NOTIFY)"
expect "BADVERS" "$(status $zone SOA +edns=1 +noednsnegotiation)"

test_case "the C library finds the search list's names, and a request goes by name"
expect "$ip" "$(inside getent ahostsv4 edge-service | awk 'NR == 1 { print $1 }')"
expect "$ip" "$(inside getent ahostsv4 edge-service.default | awk 'NR == 1 { print $1 }')"
expect "$ip" "$(inside getent ahostsv4 edge-service.default.svc | awk 'NR == 1 { print $1 }')"
expect "$pod_ip" "$(inside getent ahostsv4 first.hosts | awk 'NR == 1 { print $1 }')"
expect "edge-service.default.svc.$zone" "$(inside getent hosts "$ip" | awk '{ print $2 }')"
expect "192.0.2.7" "$(inside getent ahostsv4 www.skerry.test | awk 'NR == 1 { print $1 }')"
expect "192.0.2.7" "$(inside getent ahostsv4 outside | awk 'NR == 1 { print $1 }')"
expect "200" "$(inside curl -sS --max-time 10 -o /dev/null -w '%{http_code}' http://edge-service/)"

test_case "from the pods' network the same"
expect "$ip" "$(nsenter --net="/run/skerry/$CLUSTER_ID" dig "@$dns" +time=3 +tries=2 +short edge-service.default.svc.$zone)"
expect "$ip" "$(nsenter --net="/run/skerry/$CLUSTER_ID" dig "@$dns" +time=3 +tries=2 +short +tcp edge-service.default.svc.$zone)"

test_case "everything else is the upstream's"
expect "192.0.2.7" "$(ask www.skerry.test A)"
expect "192.0.2.7" "$(ask www.skerry.test A +tcp)"
expect "www.skerry.test. 192.0.2.7" "$(ask outside.default.svc.$zone A | xargs)"
expect "NXDOMAIN" "$(status no.skerry.test A)"
expect "NOERROR tc" "$(status many.skerry.test A +ignore +noedns)"
expect "120" "$(answers many.skerry.test A)"

test_case "while the upstream is silent what is ours is answered; the rest fails in time, and then at once"
kill -STOP "$upstream"
started=$(now_ms)
expect "SERVFAIL" "$(status www.skerry.test A)"
took=$(($(now_ms) - started))
[ $took -lt 5000 ] || fail "a silent upstream cost $took ms"
expect "$ip" "$(ask edge-service.default.svc.$zone A)"
expect "SERVFAIL" "$(status www.skerry.test A)" # the second silence: from now on it is dead
started=$(now_ms)
for _ in 1 2 3 4 5; do expect "SERVFAIL" "$(status www.skerry.test A)"; done
took=$(($(now_ms) - started))
[ $took -lt 1500 ] || fail "five failures took $took ms"
expect "$ip" "$(ask edge-service.default.svc.$zone A)"
kill -CONT "$upstream"
wait_until 10 is "192.0.2.7" www.skerry.test A || fail "the upstream answers again, and is not asked: $(status www.skerry.test A)"

test_case "the same while it is gone; a changed file is read"
kill -KILL "$upstream"
wait "$upstream" 2>/dev/null || true
upstream=
started=$(now_ms)
for _ in 1 2 3 4 5; do expect "SERVFAIL" "$(status www.skerry.test A)"; done
took=$(($(now_ms) - started))
[ $took -lt 1500 ] || fail "five failures took $took ms"
upstream_address=127.$((RANDOM % 200 + 20)).$((RANDOM % 250 + 1)).$((RANDOM % 250 + 1))
start_upstream
echo "nameserver $upstream_address" >"$work/upstream.conf"
wait_until 10 is "192.0.2.7" www.skerry.test A || fail "the new upstream is not asked: $(status www.skerry.test A)"

test_case "the figures tell"
node_get /metrics >"$work/metrics"
expect_match '^skerry_names_queries_total\{proto="udp"\} [1-9]' "$work/metrics"
expect_match '^skerry_names_responses_total\{result="nxdomain"\} [1-9]' "$work/metrics"
expect_match '^skerry_names_upstreams\{state="alive"\} 1' "$work/metrics"

test_case "kill -9 of server and agent: the next agent answers names without the server"
node_name=$(basename "$CLUSTER_NODE")
sleep 7 # Services reach the checkpoint every few seconds
kill -KILL "$CLUSTER_PID"
wait "$CLUSTER_PID" 2>/dev/null || true
CLUSTER_PID=
gone() { ! cluster_pids | while read -r pid; do process_name "$pid"; done | grep -qxE 'skerry (server|node)'; }
wait_until 10 gone || fail "server or agent outlived skerry up: $(cluster_pids | xargs ps -o pid,args -p)"
options=()
skip=0
for option in "${CLUSTER_OPTIONS[@]}"; do # those of `skerry node`
  case $option in --listen) skip=2 ;; esac
  [ $skip -gt 0 ] && skip=$((skip - 1)) && continue
  options+=("$option")
done
"$SKERRY" node "${options[@]}" --node-name "$node_name" --on-exit keep >>"$CLUSTER_LOG" 2>&1 &
node=$!
wait_until 20 is "$ip" edge-service.default.svc.$zone A || fail "the agent alone does not know the Service: $(tail -n 5 "$CLUSTER_LOG")"
expect "100" "$(answers edge-pods.default.svc.$zone A)"
expect "$pod_ip" "$(ask first.hosts.default.svc.$zone A)"
expect "edge-service.default.svc.$zone." "$(ask "$(reverse "$ip")" PTR)"
expect "192.0.2.7" "$(ask www.skerry.test A)"
expect "200" "$(inside curl -sS --max-time 10 -o /dev/null -w '%{http_code}' http://edge-service/)"
stop_pid "$node" 20
node=

test_case "and together again they follow what changes"
launch_cluster
wait_until 20 is "$ip" edge-service.default.svc.$zone A || fail "no answer after skerry up"
k delete service edge-service >&2
wait_until 10 is "" edge-service.default.svc.$zone A || fail "a Service that is gone is still answered"
expect "NXDOMAIN" "$(status edge-service.default.svc.$zone A)"

passed
