# SPDX-License-Identifier: Apache-2.0
# Shared by the scripts of this folder: source it, do not run it. Needs bash.
# shellcheck shell=bash

# The checkout that this script belongs to, whatever the caller's folder is.
SKERRY_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

require_root() {
  [ "$(id -u)" = 0 ] || die "needs root, because $1. Run it again with sudo."
}

now_ms() { date +%s%3N; }

# step NAME COMMAND… : says what runs, runs it, and says how long it took. Its output goes to a log that is shown only when
# it fails, unless VERBOSE=1. The log has no name any more while it is written: an interrupted script leaves none behind.
step() {
  local name=$1 log fd started rc=0
  shift
  started=$(now_ms)
  if [ "${VERBOSE:-0}" = 1 ]; then
    say "== $name: $*"
    "$@" >&2 || rc=$?
  else
    printf '%-44s ' "$name" >&2
    log=$(mktemp)
    exec {fd}<>"$log"
    rm -f "$log"
    "$@" >&"$fd" 2>&1 || rc=$?
    [ $rc = 0 ] || {
      say
      tail -n 120 "/dev/fd/$fd" >&2
      say "(the last 120 lines of what it printed; all of it with VERBOSE=1)"
    }
    exec {fd}>&-
  fi
  [ $rc = 0 ] && [ "${VERBOSE:-0}" = 0 ] || printf '%-44s ' "$name" >&2
  printf '%s %6d.%01d s\n' "$([ $rc = 0 ] && echo ok || echo FAILED)" \
    $((($(now_ms) - started) / 1000)) $((($(now_ms) - started) % 1000 / 100)) >&2
  return $rc
}

# With ccache (`scripts/setup ci`) another clone or worktree of the same sources builds in minutes.
if command -v ccache >/dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR=$SKERRY_TOP CCACHE_NOHASHDIR=1
fi

# configure_preset PRESET : when it was never done, or the presets changed since; ninja itself sees every other change.
configure_preset() {
  local preset=$1 ninja=$SKERRY_TOP/build/$1/build.ninja
  if [ ! -f "$ninja" ] || [ "$SKERRY_TOP/CMakePresets.json" -nt "$ninja" ]; then
    (cd "$SKERRY_TOP" && cmake --preset "$preset")
  fi
}
# build_preset PRESET [TARGET…] : configures when needed and builds.
build_preset() {
  local preset=$1
  shift
  configure_preset "$preset" && ninja -j "$(nproc)" -C "$SKERRY_TOP/build/$preset" "$@"
}
# built PRESET : whether a build was finished there before, so that another one is a matter of seconds.
built() { [ -x "$SKERRY_TOP/build/$1/bin/skerry" ]; }

# wait_until SECONDS COMMAND… : until the command succeeds, asking every 50 ms; fails when the time is up.
wait_until() {
  local end=$(($(now_ms) + $1 * 1000))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$(now_ms)" -lt "$end" ] || return 1
    sleep 0.05
  done
}

# stop_pid PID SECONDS : SIGTERM, then SIGKILL when the time is up. Only for processes that the caller started.
stop_pid() {
  local pid=$1 seconds=$2
  kill -TERM "$pid" 2>/dev/null || return 0
  if ! wait_until "$seconds" process_gone "$pid"; then
    say "process $pid did not end within $seconds s of SIGTERM; killing it"
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    return 1
  fi
  wait "$pid" 2>/dev/null || true
}
process_gone() {
  local state
  state=$(awk '/^State:/ {print $2}' "/proc/$1/status" 2>/dev/null) || return 0
  [ -z "$state" ] || [ "$state" = Z ]
}

# free_port : a TCP port that nobody listened on a moment ago, below those that the kernel gives to outgoing connections and
# those that Services take on every node.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || {
      echo "$port"
      return
    }
  done
}

# descendants PID : the process and everything below it, one id a line.
descendants() {
  local pid=$1 child
  echo "$pid"
  # shellcheck disable=SC2013
  for child in $(cat "/proc/$pid/task/"*/children 2>/dev/null); do descendants "$child"; done
}
