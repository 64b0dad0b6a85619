// SPDX-License-Identifier: Apache-2.0
// Serves one native module on a loopback port without keeper, template process or hardening: for benches and for looking at
// a guest by hand. Prints the port. Linked like skerry-sandbox (stand-in for libLLVM).
//   skerry-guest-serve IMAGE.so [--wagi] [--fresh] [--port N] [--deadline-ms N] [--env NAME=VALUE] [--workers N]
// With workers the first process only waits for them, as a template would; they die with it. [--workers N]
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "base/text.h"
#include "sandbox/guest.h"
#include "wasm/native_cache.h"

int main(int argc, char** argv) {
  using namespace skerry;
  using namespace skerry::sandbox;
  const auto die = [](std::string_view what) {
    std::fprintf(stderr, "skerry-guest-serve: %.*s\n", static_cast<int>(what.size()), what.data());
    std::exit(2);
  };
  if (argc < 2) die("usage: skerry-guest-serve IMAGE.so [--wagi] [--fresh] [--port N] [--deadline-ms N] [--env NAME=VALUE]");
  Assignment a;
  a.container_name = "guest";
  a.idle_after = Duration::zero();
  std::uint16_t port = 0;
  for (int i = 2; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const std::string_view value = i + 1 < argc ? argv[i + 1] : "";
    if (arg == "--wagi") a.kind = GuestKind::Wagi;
    else if (arg == "--fresh") a.isolation = Isolation::PerRequest;
    else if (arg == "--port") port = parse_int<std::uint16_t>(value).value_or(0), ++i;
    else if (arg == "--deadline-ms") a.request_deadline = std::chrono::milliseconds(parse_int<int>(value).value_or(0)), ++i;
    else if (arg == "--workers") a.workers = parse_int<std::uint16_t>(value).value_or(1), ++i;
    else if (arg == "--env") a.env.emplace_back(value.substr(0, value.find('=')), value.substr(value.find('=') + 1)), ++i;
    else die("unknown argument");
  }
  auto native = wasm::verify_native(argv[1]);
  if (!native) die(native.error().what);
  auto image = load_image({.native_fd = native->fd, .sha256 = native->hash, .name = argv[1]});
  if (!image) die(image.error().what);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener, 4096) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    die(errno_error(errno, "listen").what);
  }
  std::printf("%u\n", ntohs(address.sin_port));
  std::fflush(stdout);
  auto assignment = seal_assignment(a);
  if (!assignment) die(assignment.error().what);
  SlotLimits limits;
  if (a.workers > 1) {
    bool child = false;
    for (; limits.worker < a.workers && !child; ++limits.worker) child = fork() == 0;
    if (!child) {
      while (wait(nullptr) > 0) {
      }
      return 0;
    }
    --limits.worker;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
  }
  serve(**image, limits, {.listener = listener, .assignment = *assignment, .log = dup(2)});
}
