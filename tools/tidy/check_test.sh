#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goal: each check finds what it is for, and lets pass what is right. Method: a small tree with one offence a file.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cd "$tree"
mkdir -p src/base src/sql src/os src/rt src/agent src/cli docs
for row in base=0 os=1 rt=1 sql=2 agent=4 cli=6; do
  printf 'skerry_module(%s LAYER %s\n  SOURCES x.cc)\n' "${row%=*}" "${row#*=}" >"src/${row%=*}/CMakeLists.txt"
done
spdx='// SPDX-License-Identifier: Apache-2.0'
file() { path=$1 && shift && { echo "$spdx" && printf '%s\n' "$@"; } >"$path"; }

file src/sql/good.cc '#include <sqlite3.h>' '#include "base/error.h"' '// fork() in a comment' 'const char* s = "std::thread fork(";' 'child.clone();'
file src/os/good.cc 'int x = fork();'
file src/rt/good.cc 'std::thread t; co_spawn(io_context);'
file src/cli/good.cc '// TODO(#12) later' 'getenv("HOME"); std::this_thread::yield();'
"$here/check.sh" "$tree" || { echo "a tree without offence was refused" && exit 1; }

failures=0
expect() {  # PATH TEXT: a complaint about the path that holds the text
  if ! "$here/check.sh" "$tree" | grep -F "$1:" | grep -qF "$2"; then
    echo "not found: $1: $2"
    failures=1
  fi
  rm "$1"
}
file src/sql/up.cc '#include "agent/pod.h"' && expect src/sql/up.cc "must not include agent/pod.h"
file src/os/peer.cc '#include "rt/loop.h"' && expect src/os/peer.cc "must not include rt/loop.h"
file src/agent/a.cc '#include <sqlite3.h>' && expect src/agent/a.cc "sqlite3.h belongs"
file src/agent/b.cc '#include <boost/beast/http.hpp>' && expect src/agent/b.cc "beast belongs"
file src/agent/c.cc '#include <wasmedge/wasmedge.h>' && expect src/agent/c.cc "wasmedge belongs"
file src/agent/d.cc 'int f() { return ::fork(); }' && expect src/agent/d.cc "fork and exec"
file src/agent/e.cc 'execve(p, a, e);' && expect src/agent/e.cc "fork and exec"
file src/agent/f.cc 'std::jthread t(f);' && expect src/agent/f.cc "threads belong"
file src/agent/g.cc 'asio::co_spawn(x);' && expect src/agent/g.cc "io_context and co_spawn"
file src/agent/h.cc 'auto h = std::getenv("H");' && expect src/agent/h.cc "environment"
file src/agent/i.h '#pragma once' 'using namespace std;' && expect src/agent/i.h "using namespace"
file src/agent/j.h 'int x;' && expect src/agent/j.h "pragma once"
file src/agent/k.cc '// TODO: later' && expect src/agent/k.cc "names its issue"
echo 'int x;' >src/agent/l.cc && expect src/agent/l.cc "first line"
{ echo "$spdx" && yes 'int x;' | head -n 800; } >src/agent/m.cc && expect src/agent/m.cc "longer than 800"
mkdir scripts && printf '#!/bin/sh\n' >scripts/n && expect scripts/n "chmod"
host=$(grep -rhoE 'https?://[^/ ]+' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 | sed 's#.*//##')
if [ -n "$host" ]; then echo "see $host/x" >docs/o.md && expect docs/o.md "names a host"; fi
"$here/check.sh" "$tree" || { echo "an offence was reported that is gone" && exit 1; }
exit $failures
