#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Goal: images of other tools come from a real registry to pods, under the policies of Kubernetes, and a registry that is away
# stops nothing that is here.
# Method: Debian's docker-registry, plain, with TLS and passwords, and with tokens of a service of our own; images by oras and skopeo.
# (Odd answers of token services: src/oci/registry_test.cc.)
#                                                                                 tests/e2e/images.sh BUILD_FOLDER
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:?the build folder}" && pwd)
SKERRY=$build/bin/skerry
hello=$build/guest/hello.wasm
work=$(mktemp -d /var/tmp/skerry-images-XXXXXX)
data=$work/data
started=()
finish() {
  local rc=$? pid
  trap - EXIT
  trap '' INT TERM HUP
  for pid in "${started[@]}"; do stop_pid "$pid" 10 || rc=1; done
  stop_cluster || rc=1
  rm -rf "$work"
  exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# start_registry NAME PORT [LINES OF ITS CONFIGURATION] : sets registry_pid
start_registry() {
  local name=$1 port=$2
  cat >"$work/$name.yml" <<YAML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/$name}, delete: {enabled: true}}
http:
  addr: 127.0.0.1:$port
${3:-}
YAML
  docker-registry serve "$work/$name.yml" >>"$work/$name.log" 2>&1 &
  registry_pid=$!
  started+=("$registry_pid")
  wait_until 20 curl -sk -o /dev/null "http${4:-}://127.0.0.1:$port/v2/" || fail "the registry $name does not answer: $(tail -n 5 "$work/$name.log")"
}
image() { "$SKERRY" image "$@" --data-dir "$data"; }
refuses() { # TEXT ARGUMENT…
  local text=$1 rc=0
  shift
  timeout 60 "$SKERRY" image "$@" --data-dir "$data" >"$work/out" 2>"$work/err" || rc=$?
  [ "$rc" = 1 ] || fail "skerry image $* ended with $rc: $(head -c 600 "$work/err")" 1
  grep -qE -- "$text" "$work/err" || fail "skerry image $* did not say '$text' but: $(head -c 600 "$work/err")" 1
}
digest_of_file() { echo "sha256:$(sha256sum "$1" | cut -d' ' -f1)"; }

plain=127.0.0.1:$(free_port)
start_registry plain "${plain#*:}"
plain_pid=$registry_pid
printf 'mirrors: {"%s": {endpoint: ["http://%s"]}}\n' "$plain" "$plain" >"$work/registries.yaml"
with=(--registries "$work/registries.yaml")

test_case "what oras pushed is pulled: by tag, by digest, without a media type"
(cd "$build/guest" && oras push --plain-http "$plain/hello:1" hello.wasm:application/wasm) >/dev/null
(cd "$build/guest" && oras push --plain-http "$plain/hello:untyped" hello.wasm) >/dev/null
image pull "$plain/hello:1" "${with[@]}" >"$work/out" 2>"$work/err"
expect_match 'http-wasm' "$work/out"
expect_match 'pulling .*hello:1 ' "$work/err"
manifest=$(oras resolve --plain-http "$plain/hello:1")
expect "$manifest" "$(image inspect "$plain/hello:1" | jq -r .manifest)"
expect "$(digest_of_file "$hello")" "$(image inspect "$plain/hello:1" | jq -r .digest)"
image pull "$plain/hello@$manifest" "${with[@]}" >/dev/null
image pull "$plain/hello:untyped" "${with[@]}" >/dev/null
expect "$(digest_of_file "$hello")" "$(image inspect "$plain/hello:untyped" | jq -r .digest)"
image pull "$plain/hello:1" "${with[@]}" >"$work/out"
expect_match 'was here already' "$work/out"
pinned() { image ls --json | jq -r --arg ref "$1" 'select(.reference == $ref) | .pinned'; }
expect true "$(pinned "$plain/hello:1")"
expect true "$(pinned "$plain/hello@$manifest")" # of its own: the tag may move on
expect "unpinned $plain/hello:1" "$(image unpin "$plain/hello:1")"
expect false "$(pinned "$plain/hello:1")"
expect true "$(pinned "$plain/hello@$manifest")"

test_case "an ordinary image with a Wasm entrypoint, as skopeo copies it"
layout=$work/layout
mkdir -p "$work/root/srv" "$layout/blobs/sha256"
cp "$hello" "$work/root/srv/app.wasm"
tar -C "$work/root" -czf "$work/layer.tgz" .
blob() { # FILE : moves it in and prints a descriptor without its type
  local hex
  hex=$(sha256sum "$1" | cut -d' ' -f1)
  cp "$1" "$layout/blobs/sha256/$hex"
  printf '"digest":"sha256:%s","size":%s' "$hex" "$(stat -c %s "$1")"
}
config() { # OS ARCHITECTURE ENTRYPOINT VARIABLE LAYER
  printf '{"architecture":"%s","os":"%s","config":{"Entrypoint":["%s","-v"],"Env":["%s"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$2" "$1" "$3" "$4" "$(gunzip -c "$5" | sha256sum | cut -d' ' -f1)"
}
manifest() { # CONFIG LAYER
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",%s}]}' \
    "$(blob "$1")" "$(blob "$2")"
}
config linux amd64 /srv/app.wasm GREETING=hi "$work/layer.tgz" >"$work/config.json"
manifest "$work/config.json" "$work/layer.tgz" >"$work/manifest.json"
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"annotations":{"org.opencontainers.image.ref.name":"1"}}]}' "$(blob "$work/manifest.json")" >"$layout/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
skopeo --insecure-policy copy --dest-tls-verify=false "oci:$layout:1" "docker://$plain/ordinary:1" >/dev/null
skopeo --insecure-policy copy --dest-tls-verify=false --format v2s2 "oci:$layout:1" "docker://$plain/ordinary:docker" >/dev/null
for tag in 1 docker; do
  image pull "$plain/ordinary:$tag" "${with[@]}" >/dev/null 2>&1
  expect "$(digest_of_file "$hello")" "$(image inspect "$plain/ordinary:$tag" | jq -r .digest)"
  expect '["-v"] ["GREETING=hi"]' "$(image inspect "$plain/ordinary:$tag" | jq -rc '"\(.arguments) \(.env)"')"
done

test_case "a module that cannot run leaves its name as it was, whether it was added or pulled"
printf '\0asm\1\0\0\0\1\12\2\140\0\1\176\140\2\177\177\0\3\3\2\0\1\5\3\1\0\1\7\55\3\6memory\2\0\16handle_request\0\0\17handle_response\0\1\12\7\2\2\0\13\2\0\13' >"$work/bad.wasm" # a body without its result
named() { image inspect "$plain/ordinary:1" | jq -rc '"\(.source) \(.manifest) \(.digest) \(.arguments) \(.env)"'; }
before=$(named)
refuses . add "$work/bad.wasm" "$plain/ordinary:1"
expect "$before" "$(named)"
(cd "$work" && oras push --plain-http "$plain/ordinary:1" bad.wasm:application/wasm) >/dev/null
refuses "$plain/ordinary:1: " pull "$plain/ordinary:1" "${with[@]}"
expect "$before" "$(named)"
skopeo --insecure-policy copy --dest-tls-verify=false "oci:$layout:1" "docker://$plain/ordinary:1" >/dev/null

test_case "an index of several platforms: the Wasm one is chosen, by tag and by digest; without one it says what there is"
echo '#!/bin/sh' >"$work/root/srv/app"
tar -C "$work/root" -czf "$work/layer.tgz" .
for platform in linux/amd64 linux/arm64 linux/riscv64 wasip1/wasm; do
  entrypoint=/srv/app
  [ "$platform" != wasip1/wasm ] || entrypoint=/srv/app.wasm
  config "${platform%/*}" "${platform#*/}" "$entrypoint" "PLATFORM=$platform" "$work/layer.tgz" >"$work/config.json"
  manifest "$work/config.json" "$work/layer.tgz" >"$work/${platform#*/}.json"
done
index() { # TAG PLATFORM… : pushes an index of these
  local platform entries='' tag=$1
  shift
  for platform in "$@"; do
    entries+="${entries:+,}$(printf '{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"platform":{"os":"%s","architecture":"%s"}}' \
      "$(blob "$work/${platform#*/}.json")" "${platform%/*}" "${platform#*/}")"
  done
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}' "$entries" >"$work/index.json"
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json",%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}' \
    "$(blob "$work/index.json")" "$tag" >"$layout/index.json"
  skopeo --insecure-policy copy --all --dest-tls-verify=false "oci:$layout:$tag" "docker://$plain/several:$tag" >/dev/null
  expect application/vnd.oci.image.index.v1+json "$(oras manifest fetch --plain-http "$plain/several:$tag" | jq -r .mediaType)"
}
index all linux/amd64 linux/arm64 wasip1/wasm linux/riscv64
several=$(oras resolve --plain-http "$plain/several:all")
for name in "$plain/several:all" "$plain/several@$several"; do
  image pull "$name" "${with[@]}" >/dev/null 2>&1
  expect "$several $(digest_of_file "$hello") [\"PLATFORM=wasip1/wasm\"]" "$(image inspect "$name" | jq -r '"\(.manifest) \(.digest) \(.env)"')"
done
index containers linux/amd64 linux/arm64
refuses 'entrypoint /srv/app is no WebAssembly module, and containers are not served here' pull "$plain/several:containers" "${with[@]}"
index foreign linux/riscv64
refuses 'the image has no variant for wasi/wasm or linux/[a-z0-9]+; it has: linux/riscv64$' pull "$plain/several:foreign" "${with[@]}"

test_case "a download that was cut off goes on where it was"
size=$((60 << 20))
perl -e 'my ($n, $leb) = ($ARGV[0] + 4, ""); while ($n > 127) { $leb .= chr($n & 127 | 128); $n >>= 7 } print "\0$leb" . chr($n) . "\3pad"' "$size" | cat "$hello" - >"$work/big.wasm" # a custom section
head -c "$size" /dev/urandom >>"$work/big.wasm"
size=$(stat -c %s "$work/big.wasm")
big=$(digest_of_file "$work/big.wasm")
(cd "$work" && oras push --plain-http "$plain/big:1" big.wasm:application/wasm) >/dev/null
partial=$data/images/partial/$(printf 'command %s' "$plain/big:1" | sha256sum | cut -d' ' -f1)/${big#sha256:}
cut_off() { # is killed while it writes, and leaves a part
  local pid process processes
  "$SKERRY" image pull "$plain/big:1" "${with[@]}" --data-dir "$data" >/dev/null 2>&1 &
  pid=$!
  until [ -s "$partial" ] || process_gone "$pid"; do :; done
  processes=$(descendants "$pid")
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  for process in $processes; do wait_until 10 process_gone "$process" || fail "process $process goes on without skerry image pull"; done
  [ -s "$partial" ] && [ "$(stat -c %s "$partial")" -lt "$size" ]
}
for try in 1 2 3 4 5; do
  cut_off && break
  [ "$try" != 5 ] || fail "the download was over before it could be cut off"
  rm -f "$partial"
  image rm "$plain/big:1" >/dev/null 2>&1 || true
done
fetches() { awk -v path="/v2/big/blobs/$big" '$6 == "\"GET" && $7 == path {print $9, $10}' "$work/plain.log"; } # status and bytes
told() { [ "$(fetches | wc -l)" = "$try" ]; }
wait_until 10 told || fail "the registry tells of $(fetches) after $try tries"
left=$(stat -c %s "$partial")
image pull "$plain/big:1" "${with[@]}" >/dev/null 2>&1
say "   $left of $size bytes were there"
expect "206 $((size - left))" "$(fetches | tail -n "+$((try + 1))")"
expect "$big" "$(image inspect "$plain/big:1" | jq -r .digest)"
expect "$big" "$(digest_of_file "$data/images/blobs/sha256/${big#sha256:}")"
[ ! -e "$partial" ] || fail "$partial is left"

test_case "what is pushed here others can read"
image push "$plain/hello:1" "$plain/again:2" "${with[@]}" >"$work/out"
expect "$(oras resolve --plain-http "$plain/again:2")" "$(awk '{print $2}' "$work/out")"
(cd "$work" && oras pull --plain-http "$plain/again:2" >/dev/null 2>&1) || true
expect "$(digest_of_file "$hello")" "$(oras manifest fetch --plain-http "$plain/again:2" | jq -r '.layers[0].digest')"
expect application/wasm "$(oras manifest fetch --plain-http "$plain/again:2" | jq -r '.layers[0].mediaType')"

test_case "what cannot be pulled says why"
refuses 'does not have /v2/hello/manifests/none' pull "$plain/hello:none" "${with[@]}"
refuses 'cannot be (reached|trusted)' pull "$plain/hello:1" # no TLS there, and nobody said that it is plain
refuses 'is no image reference|is not an image reference' pull 'App 1' "${with[@]}"
"$SKERRY" image add "$hello" "$plain/mine:1" --data-dir "$data" >/dev/null
refuses 'was side-loaded, and no registry replaces it' pull "$plain/mine:1" "${with[@]}"
echo 'mirrors: {x: {endpoints: [y]}}' >"$work/bad.yaml"
refuses 'endpoints is not known' pull "$plain/hello:1" --registries "$work/bad.yaml"

test_case "TLS with an authority of its own, passwords, and the file of docker login"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=registry -addext 'subjectAltName=IP:127.0.0.1' \
  -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
secure=127.0.0.1:$(free_port)
# bcrypt of `right`, as the registry wants it.
echo 'al:$2y$05$kbMSRjOPFbynrVoOKL/DTuji0uX4z2Yv1t8rAlypGw1orXujUU1P.' >"$work/htpasswd"
start_registry secure "${secure#*:}" "  tls: {certificate: $work/cert.pem, key: $work/key.pem}
auth: {htpasswd: {realm: test, path: $work/htpasswd}}" s
printf 'configs: {"%s": {tls: {ca_file: %s}}}\n' "$secure" "$work/cert.pem" >"$work/secure.yaml"
refuses 'cannot be trusted' pull "$secure/hello:1"
refuses 'refuses access to hello' pull "$secure/hello:1" --registries "$work/secure.yaml"
printf '{"auths":{"%s":{"auth":"%s"}}}' "$secure" "$(printf al:right | base64)" >"$work/auth.json"
printf '{"auths":{"%s":{"auth":"%s"}}}' "$secure" "$(printf al:wrong | base64)" >"$work/wrong.json"
image push "$plain/hello:1" "$secure/hello:1" --registries "$work/secure.yaml" --auth-file "$work/auth.json" >/dev/null
refuses 'the credentials that were given do not open it' pull "$secure/hello:1" --registries "$work/secure.yaml" --auth-file "$work/wrong.json"
image pull "$secure/hello:1" --registries "$work/secure.yaml" --auth-file "$work/auth.json" >/dev/null 2>&1

test_case "tokens: what a service signs for one repository opens that one"
# The service: for al and his password a token for what is asked, for nobody one for reading repositories named open; signed by the
# key whose certificate the registry trusts (docker-registry's token authentication, JWT with RS256 and x5c).
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tokens -keyout "$work/token.key" -out "$work/token.pem" 2>/dev/null
cat >"$work/tokens.pl" <<'PERL'
use strict; use IO::Socket::INET;
my ($port, $work) = @ARGV;
sub slurp { open(my $f, '<:raw', shift) or die; local $/; my $text = <$f>; return $text }
sub base64 { my $t = pack('u', shift); $t =~ s/^.//mg; $t =~ s/\n//g; $t =~ tr/` -_/AA-Za-z0-9+\//; return $t }
sub url64 { my ($raw) = @_; my $t = base64($raw); $t =~ tr/+\//-_/; return substr($t, 0, int((length($raw) * 8 + 5) / 6)) }
my $x5c = slurp("$work/token.pem"); $x5c =~ s/-----[^-]*-----|\n//g;
my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 16, ReuseAddr => 1) or die;
while (my $c = $listen->accept) {
  my $head = ''; while (my $line = <$c>) { last if $line =~ /^\r?$/; $head .= $line }
  open(my $log, '>>', "$work/tokens.asked"); print $log $head; close $log;
  my ($scope) = $head =~ /scope=([^& ]*)/; $scope =~ s/%([0-9a-fA-F]{2})/chr(hex $1)/ge;
  my ($type, $name, $actions) = split /:/, $scope;
  my $known = $head =~ /^Authorization: Basic YWw6cmlnaHQ=\r?$/mi;
  my @may = $known ? split(/,/, $actions) : $name eq 'open' ? ('pull') : ();
  my $status = $known || $head !~ /^Authorization:/mi ? '200 OK' : '401 Unauthorized';
  my $now = time;
  my $claims = sprintf('{"iss":"tokens","sub":"","aud":"registry","exp":%d,"nbf":%d,"iat":%d,"jti":"%d","access":[{"type":"%s","name":"%s","actions":[%s]}]}',
    $now + 300, $now - 10, $now, rand(1e9), $type, $name, join(',', map { "\"$_\"" } @may));
  my $signed = url64("{\"typ\":\"JWT\",\"alg\":\"RS256\",\"x5c\":[\"$x5c\"]}") . '.' . url64($claims);
  open(my $f, '>:raw', "$work/token.text"); print $f $signed; close $f;
  my $signature = qx(openssl dgst -sha256 -sign '$work/token.key' -binary '$work/token.text');
  my $body = $status =~ /^200/ ? "{\"token\":\"$signed." . url64($signature) . '"}' : '{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}';
  print $c "HTTP/1.1 $status\r\nContent-Type: application/json\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body"; close $c;
}
PERL
tokens_port=$(free_port)
perl "$work/tokens.pl" "$tokens_port" "$work" 2>"$work/tokens.log" &
started+=($!)
signed=127.0.0.1:$(free_port)
start_registry signed "${signed#*:}" "auth: {token: {realm: 'http://127.0.0.1:$tokens_port/token', service: registry, issuer: tokens, rootcertbundle: $work/token.pem}}"
printf 'mirrors: {"%s": {endpoint: ["http://%s"]}}\n' "$signed" "$signed" >"$work/signed.yaml"
printf '{"auths":{"%s":{"auth":"%s"}}}' "$signed" "$(printf al:right | base64)" >"$work/auth.json"
printf '{"auths":{"%s":{"auth":"%s"}}}' "$signed" "$(printf al:wrong | base64)" >"$work/wrong.json"
tokens=(--registries "$work/signed.yaml" --auth-file "$work/auth.json")
for name in hello open; do image push "$plain/hello:1" "$signed/$name:1" "${tokens[@]}" >/dev/null; done
expect_match 'GET /token\?.*scope=repository(:|%3A)hello(:|%3A)pull(,|%2C)push' "$work/tokens.asked"
image pull "$signed/hello:1" "${tokens[@]}" >/dev/null 2>&1
expect "$(digest_of_file "$hello")" "$(image inspect "$signed/hello:1" | jq -r .digest)"
image pull "$signed/open:1" --registries "$work/signed.yaml" >/dev/null 2>&1 # nobody's token is enough
"$SKERRY" image rm "$signed/hello:1" --data-dir "$data" >/dev/null
refuses 'refuses access to hello' pull "$signed/hello:1" --registries "$work/signed.yaml"
refuses 'the credentials that were given do not open it' pull "$signed/hello:1" --registries "$work/signed.yaml" --auth-file "$work/wrong.json"
refuses 'refuses access|do not open' push "$plain/hello:1" "$signed/hello:2" --registries "$work/signed.yaml"

test_case "pods pull: policies, pull secrets, an Event when the registry is away"
cat "$work/registries.yaml" >"$work/both.yaml"
printf 'configs: {"%s": {tls: {ca_file: %s}}}\n' "$secure" "$work/cert.pem" >>"$work/both.yaml"
start_cluster "$build" --registries "$work/both.yaml"
k apply -f "$SKERRY_TOP/deploy/examples/edge-service/runtimeclass.yaml" >/dev/null
pod() { # NAME IMAGE POLICY [SECRET]
  local secrets=
  [ -z "${4:-}" ] || secrets="imagePullSecrets: [{name: $4}]"
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  runtimeClassName: wasmedge
  terminationGracePeriodSeconds: 1
  $secrets
  containers: [{name: main, image: "$2", imagePullPolicy: $3, ports: [{containerPort: 8080}]}]
YAML
}
ready() { k wait --for=condition=Ready "pod/$1" --timeout=60s >/dev/null || fail "pod $1 is not ready: $(k get pod "$1" -o json | jq -c .status.containerStatuses)" 1; }
waits() { [ "$(k get pod "$1" -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}')" = "$2" ]; }
events_of() { k get events --field-selector "involvedObject.name=$1" -o json | jq -r '.items[] | .type + " " + .reason + " " + .message'; }
pod first "$plain/hello:1" Always
ready first
expect "$plain/hello@$manifest" "$(k get pod first -o jsonpath='{.status.containerStatuses[0].imageID}')"
expect 200 "$(curl -s --max-time 5 -o /dev/null -w '%{http_code}' "http://$(k get pod first -o jsonpath='{.status.podIP}'):8080/")"
expect_text "Normal Pulling Pulling image" "$(events_of first)"
expect_text "Normal Pulled Successfully pulled image .* Image size: [0-9]+ bytes" "$(events_of first)"
pod closed "$secure/hello:1" IfNotPresent
wait_until 30 waits closed ErrImagePull || wait_until 5 waits closed ImagePullBackOff || fail "pod closed shows $(k get pod closed -o json | jq -c .status)"
k create secret docker-registry opens --docker-server="$secure" --docker-username=al --docker-password=right >/dev/null
pod open "$secure/hello:1" IfNotPresent opens
ready open
pod never "$plain/again:2" Never
wait_until 20 waits never ErrImageNeverPull || fail "pod never shows $(k get pod never -o json | jq -c .status)"
k delete pod closed never --wait=false >/dev/null

# Goal: one attempt an image, never a pod. Method: the registries' own access logs, which say every request and its answer.
test_case "an image that is not there, or not for us, is asked for once, whatever number of pods want it; when it comes, it is fetched once"
# asked NAME REPOSITORY TAG [STATUS] : how often its manifest was asked of that registry.
asked() { grep -cE "\"(GET|HEAD) /v2/$2/manifests/$3 HTTP/[0-9.]+\" ${4:-[0-9]+} " "$work/$1.log" || true; }
crowd=20
want() { # NAME IMAGE [POLICY] : pods that want it, at once
  local n
  for n in $(seq $crowd); do
    printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: %s%s, labels: {app: %s}}\nspec: {runtimeClassName: wasmedge, terminationGracePeriodSeconds: 1, containers: [{name: main, image: "%s", imagePullPolicy: %s}]}\n---\n' "$1" "$n" "$1" "$2" "${3:-IfNotPresent}"
  done | k apply -f - >/dev/null
}
all_wait() { [ "$(k get pods -l "app=$1" -o json | jq '[.items[].status.containerStatuses[0].state.waiting.reason | select(. == "ErrImagePull" or . == "ImagePullBackOff")] | length')" = $crowd ]; }
# A failure holds for 7.5 s at least. Attempts are counted by what the registry answered.
asked_once() { # NAME OF REGISTRY, REPOSITORY, TAG, STATUS, BEFORE, SINCE_MS
  local times may=$((1 + ($(now_ms) - $6) / 7500))
  times=$(($(asked "$1" "$2" "$3" "$4") - $5))
  say "   $crowd pods, $times requests for $2:$3 answered $4 in $(($(now_ms) - $6)) ms"
  ((times >= 1 && times <= may)) || fail "$crowd pods want $2:$3, and it was asked for $times times instead of $may: $(grep "/v2/$2/manifests/$3 " "$work/$1.log" | tail -n 5)" 1
}
printf '{"auths":{"%s":{"auth":"%s"}}}' "$secure" "$(printf al:right | base64)" >"$work/auth.json"
image push "$plain/hello:1" "$secure/kept:1" --registries "$work/secure.yaml" --auth-file "$work/auth.json" >/dev/null
before=$(asked secure kept 1 401)
since=$(now_ms)
want denied "$secure/kept:1"
wait_until 30 all_wait denied || fail "$(k get pods -l app=denied)"
asked_once secure kept 1 401 "$before" "$since"
k delete pods -l app=denied --wait=false >/dev/null
since=$(now_ms)
want wanted "$plain/hello:wanted"
wait_until 30 all_wait wanted || fail "$(k get pods -l app=wanted)"
asked_once plain hello wanted 404 0 "$since"
(cd "$build/guest" && oras push --plain-http "$plain/hello:wanted" hello.wasm:application/wasm) >/dev/null
pushed=$(asked plain hello wanted 200)
k wait --for=condition=Ready pod -l app=wanted --timeout=60s >/dev/null || fail "the pods do not start when the image is there: $(k get pods -l app=wanted)"
expect 1 $(($(asked plain hello wanted 200) - pushed))
k delete pods -l app=wanted --wait=false >/dev/null
before=$(asked plain hello mixed 404)
since=$(now_ms)
crowd=10 want mixed "$plain/hello:mixed"
crowd=10 want mixed-always "$plain/hello:mixed" Always
sleep 3
asked_once plain hello mixed 404 "$before" "$since"
k delete pods -l 'app in (mixed, mixed-always)' --wait=false >/dev/null

test_case "a registry that is away stops nothing that is here"
asked_before=$(k get events -o json | jq '[.items[] | select(.reason == "RegistryUnavailable")] | length')
expect 0 "$asked_before"
"$SKERRY" image pull "$plain/hello:untyped" --registries "$work/both.yaml" --data-dir "$CLUSTER_DIR/data" >/dev/null 2>&1
stop_pid "$plain_pid" 10
for n in 1 2 3 4; do pod "away$n" "$plain/hello:untyped" Always; done
for n in 1 2 3 4; do ready "away$n"; done
expect_text "Warning RegistryUnavailable .*cannot be asked, so the image on this node is used: .*cannot be reached" "$(events_of away1)"
pod gone "$plain/ordinary:1" IfNotPresent
wait_until 30 waits gone ImagePullBackOff || wait_until 5 waits gone ErrImagePull || fail "pod gone shows $(k get pod gone -o json | jq -c .status)"
start_registry plain "${plain#*:}"
"$SKERRY" image pull "$plain/ordinary:1" --registries "$work/both.yaml" --data-dir "$CLUSTER_DIR/data" >/dev/null 2>&1
ready gone
[ ! -d "$CLUSTER_DIR/data/images/partial" ] || expect "" "$(find "$CLUSTER_DIR/data/images/partial" -type f)"
node_get /metrics >"$work/metrics"
expect_match '^skerry_image_pulls_total\{result="pulled"\} [1-9]' "$work/metrics"
expect_match '^skerry_image_pulls_total\{result="failed"\} [1-9]' "$work/metrics"
expect_match '^skerry_image_pulls_total\{result="away"\} [1-9]' "$work/metrics"
expect_match '^skerry_image_pull_bytes_total [1-9]' "$work/metrics"
expect_match '^skerry_image_pull_seconds_count [1-9]' "$work/metrics"
stop_cluster

passed
