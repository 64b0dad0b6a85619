#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: the API server answers a stock kubectl as a real one does: discovery, protobuf bodies, tables, patches, watches.
# Method: the fixture alone (no controllers, no nodes); what a controller would write is patched by hand.
#                                                                          apiserver_kubectl.sh PATH/apiserver_fixture
set -euo pipefail
fixture=${1:?the fixture program}
if ! command -v kubectl >/dev/null; then
  echo "kubectl is not installed"
  [ "${REQUIRE_PEERS:-0}" = 1 ] && exit 1
  exit 77
fi
work=$(mktemp -d /tmp/skerry-contract-XXXXXX)
export HOME=$work KUBECONFIG=$work/admin.kubeconfig
pid=
finish() {
  local rc=$?
  if [ -n "$pid" ]; then
    kill "$pid" 2>/dev/null || true
    wait "$pid" || rc=1
  fi
  [ $rc -eq 0 ] || cat "$work/fixture.log" >&2
  rm -rf "$work"
  exit $rc
}
trap finish EXIT
"$fixture" "$work" >"$work/ready" 2>"$work/fixture.log" &
pid=$!
for _ in $(seq 200); do
  grep -q ready "$work/ready" && break
  kill -0 "$pid"
  sleep 0.05
done
failures=0
k() { kubectl --request-timeout=20s "$@"; }
# want TEXT COMMAND… : succeeds and prints the text (an extended regular expression).
want() {
  local text=$1 out
  shift
  if ! out=$("$@" 2>&1) || ! grep -Eq -- "$text" <<<"$out"; then
    failures=$((failures + 1))
    printf 'FAILED: %s\n  wanted: %s\n  got: %s\n' "$*" "$text" "$out"
  fi
}
# refuse TEXT COMMAND… : fails and prints the text.
refuse() {
  local text=$1 out
  shift
  if out=$("$@" 2>&1) || ! grep -Eq -- "$text" <<<"$out"; then
    failures=$((failures + 1))
    printf 'FAILED (should be refused): %s\n  wanted: %s\n  got: %s\n' "$*" "$text" "$out"
  fi
}

want 'Server Version: v1\.' k version
want '^deployments +deploy +apps/v1 +true +Deployment' k api-resources
want '^apps/v1$' k api-versions
want 'FIELD|FIELDS' k explain deployment.spec.replicas
want 'kube-node-lease +Active' k get namespaces

# Protobuf bodies.
want 'configmap/made created' k create configmap made --from-literal=a=1
want 'namespace/extra created' k create namespace extra
want 'deployment.apps/typed created' k create deployment typed --image=registry.example.com/a:1 --replicas=2
want 'a: "1"' k get configmap made -o yaml
want 'made +1 ' k get configmaps
want 'kube-root|made' k get cm -A
want '^configmap/made$' k get cm made -o name
want '^1$' k get cm made -o 'jsonpath={.data.a}{"\n"}'
refuse 'configmaps "nope" not found' k get cm nope

cat >"$work/app.yaml" <<'Y'
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: registry.example.com/a:1, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
Y
want 'deployment.apps/web created' k apply -f "$work/app.yaml"
want 'deployment.apps/web unchanged' k apply -f "$work/app.yaml"
want 'web +ClusterIP +10\.43\.' k get service web
sed -i 's/replicas: 2/replicas: 3/' "$work/app.yaml"
out=$(k diff -f "$work/app.yaml" 2>&1) || [ $? -eq 1 ]
want 'replicas: 3' echo "$out"
want 'configured \(server dry run\)' k apply --dry-run=server -f "$work/app.yaml"
want 'deployment.apps/web configured' k apply -f "$work/app.yaml"
want '^3$' k get deploy web -o 'jsonpath={.spec.replicas}{"\n"}'
want 'web +0/3' k get deploy web
want 'registry.example.com/a:1' k get deploy web -o wide
refuse 'unknown field "spec.replcas"' k apply -f - <<<'{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"bad"},"spec":{"replcas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}'
refuse 'server-side apply is not served yet' k apply --server-side -f "$work/app.yaml"

want 'labeled' k label deploy web tier=front
want 'annotated' k annotate deploy web note=hello
want '^deployment.apps/web$' k get deploy -l tier=front -o name
want 'scaled' k scale deploy web --replicas=1
want 'image updated' k set image deploy/web c=registry.example.com/a:2
want 'patched' k patch deploy web --type=json -p '[{"op":"replace","path":"/spec/replicas","value":1}]'
want 'restarted' k rollout restart deploy web
# What the controller would say; the watch of rollout status sees it.
(
  sleep 1
  generation=$(k get deploy web -o 'jsonpath={.metadata.generation}')
  k patch deploy web --subresource=status --type=merge -p "{\"status\":{\"observedGeneration\":$generation,\"replicas\":1,\"updatedReplicas\":1,\"readyReplicas\":1,\"availableReplicas\":1}}" >/dev/null
) &
want 'successfully rolled out' k rollout status deploy web --timeout=15s
want 'web +1/1 +1 +1' k get deploy web
want 'Replicas: +1 desired' k describe deploy web

# A watch shows the change.
k get cm made -w >"$work/watch" 2>&1 &
watcher=$!
sleep 1
want 'patched' k patch cm made --type=merge -p '{"data":{"b":"2"}}'
for _ in $(seq 40); do grep -q '^made +2' -E "$work/watch" && break; sleep 0.1; done
want '^made +2' cat "$work/watch"
kill "$watcher" && wait "$watcher" 2>/dev/null || true

want 'pod/p created' k run p --image=registry.example.com/a:1
want 'Pending' k get pod p
want 'Name: +p' k describe pod p
want 'No events|LAST SEEN' k events
want 'pod "p" (force )?deleted' k delete pod p
want 'service/web exposed|service/typed exposed' k expose deploy typed --port=80
want 'replaced' k replace -f - <<<'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"made"},"data":{"c":"3"}}'
want '^{"c":"3"}$' k get cm made -o 'jsonpath={.data}{"\n"}'
want 'deployment.apps "web" deleted' k delete -f "$work/app.yaml"
want '' k wait --for=delete deploy/web --timeout=5s
for i in $(seq 30); do printf '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"many-%02d","labels":{"set":"many"}}}\n' "$i"; done >"$work/many.json"
want 'many-30 created' k create -f "$work/many.json"
want 'many-30' k get cm -l set=many --chunk-size=7 -o name
[ "$(k get cm -l set=many --chunk-size=7 -o name | wc -l)" = 30 ] || { failures=$((failures + 1)); echo "FAILED: chunks"; }
want 'many-01" deleted' k delete cm -l set=many
want 'ok' k get --raw /readyz
# What one may, and who one is.
want '^yes$' k auth can-i create deployments
want '\*\.\*' k auth can-i --list
want 'admin' k auth whoami
want 'apiserver_request_total.*resource="configmaps".*verb="POST"' k get --raw /metrics
# What Kubernetes has and we have not: a sentence, and a remedy.
refuse 'use kubectl scale' k autoscale deployment typed --max=3
refuse 'jobs are not run yet' k create job j --image=registry.example.com/a:1
refuse 'built in' k create role r --verb=get --resource=pods
refuse 'reach pods through a Service' k create ingress i --rule=example.com/a=web:80
refuse 'service account tokens are not served' k create token default
want 'pod/q created' k run q --image=registry.example.com/a:1
refuse 'are not served yet: use kubectl logs' k exec q -- ls
want '^no - secrets is forbidden' sh -c 'kubectl auth can-i list secrets --as=system:node:n1 --as-group=system:nodes || true'
refuse 'operation 0 of the JSON patch' k patch cm made --type=json -p '[{"op":"test","path":"/data/c","value":"4"}]'
refuse 'no PriorityClass with name gold' k create -f - <<<'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"gold"},"spec":{"priorityClassName":"gold","containers":[{"name":"c","image":"i"}]}}'
# Certificates: requests as kubectl shows, approves and denies them.
request=$(openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -subj '/O=system:nodes/CN=system:node:n1' 2>/dev/null | base64 -w0)
for name in one two; do
  want "$name created" k create -f - <<<'{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{"name":"'$name'"},"spec":{"request":"'"$request"'","signerName":"kubernetes.io/kube-apiserver-client-kubelet","expirationSeconds":86400,"usages":["digital signature","client auth"]}}'
done
want '^NAME +AGE +SIGNERNAME +REQUESTOR +REQUESTEDDURATION +CONDITION' k get csr
want '^one +[0-9]+s +kubernetes.io/kube-apiserver-client-kubelet +admin +24h +Pending' k get csr one
want 'one approved' k certificate approve one
want 'two denied' k certificate deny two
want '^one .* Approved$' k get csr one
want '^two .* Denied$' k get csr two
want 'Status: +Approved' k describe csr one
refuse 'PEM block type must be CERTIFICATE REQUEST' k create -f - <<<'{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{"name":"bad"},"spec":{"request":"eA==","signerName":"kubernetes.io/kube-apiserver-client-kubelet","usages":["client auth"]}}'
want 'one" deleted' k delete csr one
# As a node.
refuse 'forbidden' k --kubeconfig "$work/node.kubeconfig" get --raw /metrics
refuse '^no' k --kubeconfig "$work/node.kubeconfig" auth can-i list secrets
refuse 'forbidden: User "system:node:n1" cannot list resource "secrets"' k --kubeconfig "$work/node.kubeconfig" get secrets
want 'No resources|NAME' k --kubeconfig "$work/node.kubeconfig" get pods
[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "all passed"
