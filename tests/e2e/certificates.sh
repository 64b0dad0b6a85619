#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: a node whose certificate ended while it was away renews it with its key and goes on; what it had before is refused from then on; the
# operator ends a stolen one; a copy of its data folder neither starts on another machine nor, taken over there, displaces the node.
# Method: `skerry server` and `skerry node` with a data folder each. Certificates with a life in the past are signed by openssl with the
# server's authority. The other machine is a mount namespace with another /etc/machine-id. (Power cuts within a renewal, answers that
# are refused, clocks: tests/integration/node_identity_test.cc.)
#                                                                               tests/e2e/certificates.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:?the build folder}" && pwd)
require_root "nodes get namespaces, and the other machine is one"
[ -s /etc/machine-id ] || die "this machine has no /etc/machine-id; run systemd-machine-id-setup."

SKERRY=$build/bin/skerry
CLUSTER_DIR=$(mktemp -d /var/tmp/skerry-XXXXXX)
CLUSTER_ID=$(basename "$CLUSTER_DIR")
CLUSTER_PID=
CLUSTER_LOG=$CLUSTER_DIR/log
data=$CLUSTER_DIR/data # the server's; the node's is:
edge=$CLUSTER_DIR/edge
range=$(free_ranges)
api_port=$(free_port)
ranges=(--pod-cidr "10.$range.0.0/16" --service-cidr "10.$((range + 1)).0.0/16")
server='' node='' other=''
finish() {
  local rc=$?
  [ -z "$other" ] || stop_pid "$other" 20 || rc=1
  [ -z "$node" ] || stop_pid "$node" 20 || rc=1
  [ -z "$server" ] || stop_pid "$server" 20 || rc=1
  stop_cluster || rc=1
  exit $rc
}
trap finish EXIT

# node_command FOLDER MARK : sets `command`: the node of that folder, with ports and names of its own; what it makes in the kernel goes with it.
node_command() {
  command=("$SKERRY" node --data-dir "$1" --kubeconfig "$1/given.kubeconfig" --node-name edge-1 --node-address 127.0.0.1 --port "$(free_port)" --local-port 0
    --pod-namespace "$CLUSTER_ID$2" --cgroup "$CLUSTER_ID$2" --lease-period 5s --on-exit stop "${ranges[@]}")
}
start_node() {
  "${edge_node[@]}" >>"$CLUSTER_LOG" 2>&1 &
  node=$!
}
stop_node() {
  stop_pid "$node" 20 || fail "the node did not end"
  node=
}
at_time() { date -u -d "$1" +%Y%m%d%H%M%SZ; }
# certificate NAME FROM TO : NAME.pem and NAME.key in the work folder, the node's by name, from then to then (what `date -d` takes).
certificate() {
  local at="$CLUSTER_DIR/$1"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=system:nodes/CN=system:node:edge-1" -keyout "$at.key" -out "$at.csr" 2>/dev/null
  printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n' >"$at.ext"
  openssl x509 -req -in "$at.csr" -CA "$data/pki/ca.crt" -CAkey "$data/pki/ca.key" -extfile "$at.ext" -out "$at.pem" \
    -not_before "$(at_time "$2")" -not_after "$(at_time "$3")" 2>/dev/null
}
# give NAME : the operator's kubeconfig with that pair.
give() {
  kubectl config --kubeconfig "$edge/new" set-cluster c --server "https://127.0.0.1:$api_port" --certificate-authority "$data/pki/ca.crt" --embed-certs >/dev/null
  kubectl config --kubeconfig "$edge/new" set-credentials u --client-certificate "$CLUSTER_DIR/$1.pem" --client-key "$CLUSTER_DIR/$1.key" --embed-certs >/dev/null
  kubectl config --kubeconfig "$edge/new" set-context x --cluster c --user u >/dev/null
  kubectl config --kubeconfig "$edge/new" use-context x >/dev/null
  mv "$edge/new" "$edge/given.kubeconfig"
}
# asks CERTIFICATE KEY : what the server answers to their bearer; the status on stdout, the text in the file `answer`.
asks() { curl -sS --max-time 5 -o "$CLUSTER_DIR/answer" -w '%{http_code}' --cacert "$data/pki/ca.crt" --cert "$1" --key "$2" "https://127.0.0.1:$api_port/api/v1/nodes/edge-1"; }
ready_since() { # TIME : Ready, by a status later than that
  local said
  said=$(k get node edge-1 -o json | jq -r '.status.conditions[] | select(.type == "Ready") | .status + " " + .lastHeartbeatTime') && [ "${said%% *}" = True ] && [[ "${said#* }" > "$1" ]]
}
renewed_since() { [[ "$(k get lease -n kube-node-lease edge-1 -o jsonpath='{.spec.renewTime}')" > "$1" ]]; }
holds_new() { grep -qx 'Key: new' "$edge/node/pki/client.pem" && [ "$(key_of "$edge/node/pki/client.pem")" != "$(key_of "$CLUSTER_DIR/$1.pem")" ]; }
key_of() { openssl x509 -in "$1" -noout -pubkey | sha256sum; }
requests() { k get csr -o json | jq '[.items[] | select(.spec.signerName == "kubernetes.io/kube-apiserver-client-kubelet")] | length'; }
event() { k get events -A -o json | jq -r '.items[] | .reason + " " + .message' | grep -qE -- "$1"; }

mkdir -m 700 "$edge" "$data" "$data/pki"
# A server that has been there for a while: a certificate counts as ended only if its authority held in its last second.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=skerry -addext keyUsage=critical,keyCertSign,cRLSign \
  -not_before "$(at_time "400 days ago")" -not_after "$(at_time "3000 days")" -keyout "$data/pki/ca.key" -out "$data/pki/ca.crt" 2>/dev/null
chmod 600 "$data/pki/ca.key"
node_command "$edge" ""
edge_node=("${command[@]}")
"$SKERRY" server --data-dir "$data" --listen "127.0.0.1:$api_port" "${ranges[@]}" >>"$CLUSTER_LOG" 2>&1 &
server=$!
wait_until 30 k get --raw /readyz || fail "the server did not become ready"

test_case "a certificate in the middle of its life: used as it is"
certificate first "10 days ago" "10 days"
give first
start_node
wait_until 30 ready_since 0 || fail "the node did not become Ready"
expect 0 "$(requests)"
expect 200 "$(asks "$CLUSTER_DIR/first.pem" "$CLUSTER_DIR/first.key")"
# On the server's machine, whose address it has: signed for its name alone, by which the server reaches it.
wait_until 20 test -s "$edge/node/pki/signed-serving.pem" || fail "the node got no serving certificate: $(k get csr)"
expect "DNS:edge-1" "$(openssl x509 -in "$edge/node/pki/signed-serving.pem" -noout -ext subjectAltName | tail -n 1 | tr -d ' ')"
stop_node

test_case "it ended while the node was away: the node comes back by itself, with a new pair"
certificate ended "3 days ago" "1 day ago"
give ended
sha256sum "$edge/given.kubeconfig" >"$CLUSTER_DIR/given"
expect 401 "$(asks "$CLUSTER_DIR/ended.pem" "$CLUSTER_DIR/ended.key")"
expect_match 'all that it may do now is to be renewed' "$CLUSTER_DIR/answer"
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sleep 1
start_node
wait_until 30 ready_since "$since" || fail "the node did not become Ready: $(k get nodes)"
wait_until 20 holds_new ended || fail "there is no new pair in $edge/node/pki: $(ls "$edge/node/pki"; k get csr)"
expect 600 "$(stat -c %a "$edge/node/pki/client.pem")"
expect 2 "$(requests)" # one for the key of before, one for a new key
expect 200 "$(asks "$edge/node/pki/client.pem" "$edge/node/pki/client.pem")"
sha256sum -c --quiet "$CLUSTER_DIR/given" || fail "the operator's kubeconfig was written"

test_case "what it had before is refused, and a restart asks for nothing"
for old in first ended; do
  expect 401 "$(asks "$CLUSTER_DIR/$old.pem" "$CLUSTER_DIR/$old.key")"
  expect_match 'was replaced by one begun' "$CLUSTER_DIR/answer"
done
wait_until 10 event '^CertificateReplaced ' || fail "no Event names the refused certificate: $(k get events -A)"
stop_node
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sleep 1
start_node
wait_until 30 ready_since "$since" || fail "the node did not come back with the pair of its data folder"
expect 2 "$(requests)"

test_case "stolen while it holds: the operator's newer one, used once, ends it (docs/node.md)"
stop_node
cp "$edge/node/pki/client.pem" "$CLUSTER_DIR/stolen.pem"
given=$CLUSTER_DIR/operator
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /O=system:nodes/CN=system:node:edge-1 -keyout "$given.key" -out "$given.csr" 2>/dev/null
k apply -f - >/dev/null <<<"apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: edge-1}
spec: {request: $(base64 -w0 "$given.csr"), signerName: kubernetes.io/kube-apiserver-client-kubelet, usages: [digital signature, client auth]}"
{ k certificate approve edge-1 && k wait csr/edge-1 --for=jsonpath='{.status.certificate}'; } >/dev/null
k get csr edge-1 -o jsonpath='{.status.certificate}' | base64 -d >"$given.pem"
expect 200 "$(asks "$CLUSTER_DIR/stolen.pem" "$CLUSTER_DIR/stolen.pem")"
expect 200 "$(asks "$given.pem" "$given.key")"
expect 401 "$(asks "$CLUSTER_DIR/stolen.pem" "$CLUSTER_DIR/stolen.pem")"
give operator
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sleep 1
start_node
wait_until 30 ready_since "$since" || fail "the node did not come back with the operator's pair"

test_case "a copy of the data folder on another machine: refused before a key is read"
machine=$(cat /etc/machine-id)
copy=$CLUSTER_DIR/copy
cp -a "$edge" "$copy"
node_command "$copy" 2
echo 0123456789abcdef0123456789abcdef >"$CLUSTER_DIR/machine-id"
# shellcheck disable=SC2016
elsewhere=(unshare --mount --propagation private bash -c 'mount --bind "$0" /etc/machine-id && exec "$@"' "$CLUSTER_DIR/machine-id")
rc=0
timeout 20 "${elsewhere[@]}" "${command[@]}" >"$CLUSTER_DIR/copied" 2>&1 || rc=$?
expect 1 "$rc"
expect_match "this data folder belongs to machine $machine/.*and this is machine 0123456789abcdef0123456789abcdef" "$CLUSTER_DIR/copied"

test_case "taken over there while the node is live: the server refuses the copy and names both; the node stays"
"${elsewhere[@]}" "${command[@]}" --accept-new-machine >"$CLUSTER_DIR/copied" 2>&1 &
other=$!
wait_until 20 event "^MachineConflict .*($machine.*0123456789abcdef|0123456789abcdef.*$machine)" || fail "no Event names the other machine: $(k get events -A); the copy's log: $(tail -n 5 "$CLUSTER_DIR/copied")"
expect "$machine" "$(k get node edge-1 -o jsonpath='{.status.nodeInfo.machineID}')"
stop_pid "$other" 20 || fail "the copy did not end"
other=
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
wait_until 15 renewed_since "$since" || fail "the node does not renew its Lease after its copy was there"
node_is_ready || fail "the node is not Ready after its copy was there: $(k get nodes)"
expect "$machine" "$(k get node edge-1 -o jsonpath='{.status.nodeInfo.machineID}')"

passed
