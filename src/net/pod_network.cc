// SPDX-License-Identifier: Apache-2.0
#include "net/pod_network.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <ctime>
#include <format>

#include "base/time.h"
#include "os/file.h"
#include "os/netlink.h"
#include "os/netns.h"

namespace skerry::net {
namespace {

using os::Netlink;
using os::NetnsScope;
constexpr std::string_view kPodLink = "eth0";

// What the host's link says of itself: for which range and which namespace it was made.
std::string alias_of(const PodNetwork::Options& options) {
  return std::format("skerry {} {}", options.pods.str(), (options.run_folder / options.name).string());
}

Result<> check(const PodNetwork::Options& options) {
  if (options.pods.prefix < 8 || options.pods.prefix > 29) {
    return Fail({Errc::Invalid, std::format("pod range {}: the prefix must be between 8 and 29", options.pods.str())});
  }
  if (options.pods.overlaps(options.services)) {
    return Fail({Errc::Invalid, std::format("pod range {} and service range {} overlap: give them ranges of their own",
                                            options.pods.str(), options.services.str())});
  }
  if (options.name.empty() || options.name.find('/') != std::string::npos) {
    return Fail({Errc::Invalid, std::format("\"{}\" cannot name a network namespace", options.name)});
  }
  if (alias_of(options).size() > 255) {
    return Fail({Errc::Invalid,
                 std::format("run folder {}: its path is too long; use a shorter one", options.run_folder.string())});
  }
  return {};
}

// After both ends are up the kernel starts to send a moment later; a packet before that is lost, and a connection
// waits a second for its next attempt.
Result<> wait_until_running(Netlink& netlink, std::string_view name) {
  const SystemClock clock;
  const Instant end = clock.instant() + 2s;
  for (;;) {
    TRY(const auto link, netlink.link(name));
    if (link.running) return {};
    if (clock.instant() >= end) return Fail({Errc::Timeout, std::format("link {} did not come up within 2 s", name)});
    const timespec pause{.tv_sec = 0, .tv_nsec = 200'000};
    ::nanosleep(&pause, nullptr);
  }
}

Result<bool> has_pod_link(int netns) {
  TRY(const auto inside, NetnsScope::enter(netns));
  TRY(auto pods, Netlink::open());
  const auto peer = pods.link(kPodLink);
  if (!peer && peer.error().code != Errc::NotFound) return Fail(peer.error());
  return peer.has_value();
}

// The host's end of the pair, made or adopted.
Result<Netlink::Link> host_link(Netlink& host, const PodNetwork::Options& options, int netns) {
  const std::string alias = alias_of(options);
  auto existing = host.link(options.host_link);
  if (existing) {
    TRY(const bool joined, has_pod_link(netns));
    if (existing->alias.empty() && joined) {  // a start that was cut off before it had named the link
      TRY_OK(host.set_alias(existing->index, alias));
      return existing;
    }
    if (!existing->alias.starts_with("skerry ")) {
      return Fail({Errc::Conflict, std::format("a link {} exists and is not Skerry's: choose another name for ours",
                                               options.host_link)});
    }
    if (existing->alias != alias) {
      return Fail({Errc::Conflict, std::format("link {} belongs to the pod network \"{}\", ours would be \"{}\"; stop "
                                               "that node and remove the link, or keep its range and name",
                                               options.host_link, existing->alias.substr(7), alias.substr(7))});
    }
    if (joined) return existing;
    // Its peer went with a namespace that was lost: the pair is useless and is made anew.
    TRY_OK(host.remove_link(existing->index));
  } else if (existing.error().code != Errc::NotFound) {
    return existing;
  }
  TRY_OK(host.add_veth(options.host_link, kPodLink, netns));
  TRY(const auto made, host.link(options.host_link));
  TRY_OK(host.set_alias(made.index, alias));
  return made;
}

Result<> configure_inside(const PodNetwork::Options& options, int netns) {
  TRY(const auto inside, NetnsScope::enter(netns));
  TRY(auto netlink, Netlink::open());
  TRY(const auto loopback, netlink.link("lo"));
  TRY(const auto link, netlink.link(kPodLink));
  TRY_OK(netlink.set_up(loopback.index));
  TRY_OK(netlink.set_up(link.index));
  const Ipv4 host = options.pods.at(1);
  // bind() looks into the local table alone, so the whole range is local there, and the host's address is the
  // exception.
  TRY_OK(netlink.add_route({.to = {host, 32}, .index = link.index, .table = Netlink::RouteTable::Local}));
  TRY_OK(netlink.add_route({.to = options.pods,
                            .index = loopback.index,
                            .kind = Netlink::RouteKind::Local,
                            .table = Netlink::RouteTable::Local}));
  TRY_OK(netlink.add_address(link.index, options.pods.at(2), 32));
  TRY_OK(netlink.add_route({.to = {Ipv4{0}, 0}, .index = link.index, .gateway = host}));
  return wait_until_running(netlink, kPodLink);
}

Result<> configure_host(Netlink& netlink, const PodNetwork::Options& options, int index) {
  TRY(const auto loopback, netlink.link("lo"));
  const Ipv4 host = options.pods.at(1);
  TRY_OK(netlink.set_up(loopback.index));
  TRY_OK(netlink.set_up(index));
  TRY_OK(netlink.add_address(index, host, 32));
  TRY_OK(netlink.add_route({.to = options.pods, .index = index, .gateway = options.pods.at(2), .source = host}));
  TRY_OK(netlink.add_route({.to = options.services, .index = loopback.index, .source = host}));
  // Requests from other machines to a NodePort are forwarded into the pods' namespace.
  TRY(const std::string forwarding, os::read_small_file("/proc/sys/net/ipv4/ip_forward"));
  if (forwarding.starts_with('0')) TRY_OK(os::write_control_file("/proc/sys/net/ipv4/ip_forward", "1"));
  return {};
}

}  // namespace

Result<PodNetwork> PodNetwork::open(Options options) {
  TRY_OK(check(options));
  TRY_OK(os::make_folders(options.run_folder));
  const auto path = options.run_folder / options.name;
  auto netns = os::open_netns(path);
  const bool made = !netns && netns.error().code == Errc::NotFound;  // absent, or a reboot left only its file
  if (made) netns = os::create_netns(path);
  const auto joined = [&]() -> Result<> {
    if (!netns) return Fail(netns.error());
    TRY(auto host, Netlink::open());
    TRY(const auto link, host_link(host, options, netns->get()));
    TRY_OK(configure_host(host, options, link.index));
    TRY_OK(configure_inside(options, netns->get()));
    return wait_until_running(host, options.host_link);
  }();
  if (!joined) {
    Error error = joined.error().with("pod network");
    if (const auto gone = made ? os::remove_netns(path) : Result<>{}; !gone) error.what += "; and " + gone.error().what;
    return Fail(std::move(error));
  }
  return PodNetwork(std::move(options), std::move(*netns), made);
}

Result<os::UniqueFd> PodNetwork::bind_socket(Ipv4 address, std::uint16_t port, int type,
                                             std::string_view operation) const {
  if (!options_.pods.contains(address) || address == host_address()) {
    return Fail({Errc::Invalid, std::format("{} is not a pod address of {}", address.str(), options_.pods.str())});
  }
  os::UniqueFd socket;
  {
    TRY(const auto inside, NetnsScope::enter(netns_.get()));
    socket.reset(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  }
  if (!socket) return Fail(errno_error(errno, operation));
  const int on = 1;
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(address.value);
  // Of datagram sockets, SO_REUSEADDR would let two have the same address.
  if ((type == SOCK_STREAM && ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) {
    if (errno == EADDRINUSE) return Fail({Errc::AlreadyExists, std::format("{}: another socket has it", operation)});
    return Fail(errno_error(errno, operation));
  }
  return socket;
}

Result<os::UniqueFd> PodNetwork::listen(Ipv4 address, std::uint16_t port, int backlog) const {
  const std::string operation = std::format("listen on {}:{}", address.str(), port);
  TRY(os::UniqueFd socket, bind_socket(address, port, SOCK_STREAM, operation));
  if (::listen(socket.get(), backlog) != 0) {
    if (errno == EADDRINUSE) return Fail({Errc::AlreadyExists, std::format("{}: another listener has it", operation)});
    return Fail(errno_error(errno, operation));
  }
  return socket;
}

Result<os::UniqueFd> PodNetwork::bind_datagrams(Ipv4 address, std::uint16_t port) const {
  return bind_socket(address, port, SOCK_DGRAM, std::format("bind UDP {}:{}", address.str(), port));
}

std::optional<Ipv4> PodNetwork::address_of(int fd) {
  sockaddr_in name{};
  socklen_t size = sizeof name;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0 || size != sizeof name || name.sin_family != AF_INET) return std::nullopt;
  return Ipv4{ntohl(name.sin_addr.s_addr)};
}

Result<> PodNetwork::check_listener(int fd, Ipv4 address, std::uint16_t port) const {
  const auto wrong = [&](std::string_view why) {
    return Fail({Errc::Corrupt, std::format("not the listener of {}:{}: {}", address.str(), port, why)});
  };
  const auto is = [fd](int option, int wanted) {
    int value = 0;
    socklen_t size = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
  };
  if (!is(SO_DOMAIN, AF_INET) || !is(SO_TYPE, SOCK_STREAM) || !is(SO_PROTOCOL, IPPROTO_TCP) || !is(SO_ACCEPTCONN, 1)) {
    return wrong("no TCP socket that listens");
  }
  sockaddr_in name{};
  socklen_t size = sizeof name;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0 || name.sin_port != htons(port) ||
      name.sin_addr.s_addr != htonl(address.value)) {
    return wrong("it has another address");
  }
  const os::UniqueFd theirs(::ioctl(fd, SIOCGSKNS));
  struct stat ours{}, other{};
  if (!theirs || ::fstat(theirs.get(), &other) != 0 || ::fstat(netns_.get(), &ours) != 0 ||
      ours.st_dev != other.st_dev || ours.st_ino != other.st_ino) {
    return wrong("it is not in the pods' network");
  }
  return {};
}

Result<> PodNetwork::remove() {
  TRY(auto host, Netlink::open());
  TRY(const auto loopback, host.link("lo"));
  const auto route = host.remove_route({.to = options_.services, .index = loopback.index});
  if (!route && route.error().code != Errc::NotFound) return Fail(route.error().with("remove the pod network"));
  const auto link = host.link(options_.host_link);
  if (link) TRY_OK(host.remove_link(link->index));
  TRY_OK(os::remove_netns(options_.run_folder / options_.name));
  netns_.reset();
  return {};
}

}  // namespace skerry::net
