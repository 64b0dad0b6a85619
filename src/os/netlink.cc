// SPDX-License-Identifier: Apache-2.0
#include "os/netlink.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/check.h"

namespace skerry::os {

// One request under construction: header, fixed part, attributes (which may nest).
class Netlink::Message {
 public:
  template <class Fixed>
  Message(std::uint16_t type, std::uint16_t flags, const Fixed& fixed) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    append(&header, sizeof header);
    append(&fixed, sizeof fixed);
  }
  void attribute(std::uint16_t type, const void* data, std::size_t size) {
    const auto at = begin(type);
    append(data, size);
    end(at);
  }
  void attribute(std::uint16_t type, std::string_view text) {
    const auto at = begin(type);
    append(text.data(), text.size());
    append("", 1);
    end(at);
  }
  void attribute(std::uint16_t type, int value) { attribute(type, &value, sizeof value); }
  void attribute(std::uint16_t type, Ipv4 address) {
    const std::uint32_t bytes = htonl(address.value);
    attribute(type, &bytes, sizeof bytes);
  }
  std::size_t begin(std::uint16_t type) {
    const std::size_t at = bytes_.size();
    rtattr header{};
    header.rta_type = type;
    append(&header, sizeof header);
    return at;
  }
  void end(std::size_t at) {
    const auto length = static_cast<std::uint16_t>(bytes_.size() - at);
    std::memcpy(bytes_.data() + at + offsetof(rtattr, rta_len), &length, sizeof length);
    bytes_.resize((bytes_.size() + 3) / 4 * 4);
  }
  // Raw bytes inside a nested attribute (veth's peer has an ifinfomsg there).
  template <class Fixed>
  void raw(const Fixed& fixed) {
    append(&fixed, sizeof fixed);
  }
  std::string& finish(std::uint32_t sequence) {
    const auto length = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data() + offsetof(nlmsghdr, nlmsg_len), &length, sizeof length);
    std::memcpy(bytes_.data() + offsetof(nlmsghdr, nlmsg_seq), &sequence, sizeof sequence);
    return bytes_;
  }

 private:
  void append(const void* data, std::size_t size) { bytes_.append(static_cast<const char*>(data), size); }
  std::string bytes_;
};

namespace {

Result<> check_name(std::string_view name) {
  if (name.empty() || name.size() >= IFNAMSIZ || name.find('/') != std::string_view::npos) {
    return Fail(
        {Errc::Invalid, std::format("link name \"{}\": it must have 1 to {} bytes and no slash", name, IFNAMSIZ - 1)});
  }
  return {};
}

Error kernel_error(int error, std::string_view operation) {
  if (error == EPERM || error == EACCES) {
    return {Errc::Denied,
            std::format("{}: the kernel refused; the node needs to run as root (CAP_NET_ADMIN)", operation)};
  }
  if (error == ENODEV || error == ESRCH || error == ENOENT) {
    return {Errc::NotFound, std::format("{}: {}", operation, std::strerror(error))};
  }
  return errno_error(error, operation);
}

ifinfomsg link_message(int index) {
  ifinfomsg info{};
  info.ifi_family = AF_UNSPEC;
  info.ifi_index = index;
  return info;
}

}  // namespace

Result<Netlink> Netlink::open() {
  UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket) return Fail(errno_error(errno, "open a netlink socket"));
  timeval limit{.tv_sec = 5, .tv_usec = 0};
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) {
    return Fail(errno_error(errno, "set the deadline of a netlink socket"));
  }
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return Fail(errno_error(errno, "bind a netlink socket"));
  }
  return Netlink(std::move(socket));
}

Result<> Netlink::transact(Message& message, std::string_view operation, std::string* reply) {
  const std::uint32_t sequence = ++sequence_;
  const std::string& bytes = message.finish(sequence);
  if (::send(socket_.get(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return Fail(kernel_error(errno, operation));
  }
  alignas(nlmsghdr) std::array<char, 32768> buffer;
  for (;;) {
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      return Fail({Errc::Timeout, std::format("{}: the kernel did not answer for 5 s", operation)});
    }
    if (got < 0) return Fail(kernel_error(errno, operation));
    auto left = static_cast<std::size_t>(got);
    const char* at = buffer.data();
    while (left >= sizeof(nlmsghdr)) {
      nlmsghdr header;
      std::memcpy(&header, at, sizeof header);
      if (header.nlmsg_len < sizeof header || header.nlmsg_len > left) {
        return Fail(
            {Errc::Corrupt, std::format("{}: a netlink answer of {} bytes in {}", operation, header.nlmsg_len, left)});
      }
      if (header.nlmsg_seq == sequence) {
        if (header.nlmsg_type == NLMSG_ERROR) {
          nlmsgerr error{};
          if (header.nlmsg_len < NLMSG_LENGTH(sizeof error.error)) {
            return Fail({Errc::Corrupt, std::format("{}: a netlink acknowledgement without a result", operation)});
          }
          std::memcpy(&error.error, at + NLMSG_HDRLEN, sizeof error.error);
          if (error.error != 0) return Fail(kernel_error(-error.error, operation));
          return {};
        }
        if (reply != nullptr) reply->assign(at + NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
      }
      const std::size_t step = NLMSG_ALIGN(header.nlmsg_len);
      if (step >= left) break;
      at += step;
      left -= step;
    }
  }
}

Result<Netlink::Link> Netlink::link(std::string_view name) {
  TRY_OK(check_name(name));
  Message message(RTM_GETLINK, 0, link_message(0));
  message.attribute(IFLA_IFNAME, name);
  std::string reply;
  TRY_OK(transact(message, std::format("look up link {}", name), &reply));
  ifinfomsg info{};
  if (reply.size() < sizeof info)
    return Fail({Errc::Corrupt, std::format("link {}: the kernel's answer is short", name)});
  std::memcpy(&info, reply.data(), sizeof info);
  Link link{.index = info.ifi_index, .up = (info.ifi_flags & IFF_UP) != 0, .running = (info.ifi_flags & IFF_RUNNING) != 0, .alias = {}};
  std::size_t at = NLMSG_ALIGN(sizeof info);
  while (at + sizeof(rtattr) <= reply.size()) {
    rtattr attribute;
    std::memcpy(&attribute, reply.data() + at, sizeof attribute);
    if (attribute.rta_len < sizeof attribute || at + attribute.rta_len > reply.size()) break;
    if (attribute.rta_type == IFLA_IFALIAS) {
      const char* text = reply.data() + at + sizeof attribute;
      link.alias.assign(text, ::strnlen(text, attribute.rta_len - sizeof attribute));
    }
    at += RTA_ALIGN(attribute.rta_len);
  }
  return link;
}

Result<> Netlink::add_veth(std::string_view name, std::string_view peer, int peer_netns) {
  TRY_OK(check_name(name));
  TRY_OK(check_name(peer));
  Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_message(0));
  message.attribute(IFLA_IFNAME, name);
  const auto info = message.begin(IFLA_LINKINFO);
  message.attribute(IFLA_INFO_KIND, std::string_view("veth"));
  const auto data = message.begin(IFLA_INFO_DATA);
  const auto other = message.begin(VETH_INFO_PEER);
  message.raw(link_message(0));
  message.attribute(IFLA_IFNAME, peer);
  message.attribute(IFLA_NET_NS_FD, peer_netns);
  message.end(other);
  message.end(data);
  message.end(info);
  return transact(message, std::format("create the link pair {} and {}", name, peer));
}

Result<> Netlink::set_up(int index) {
  ifinfomsg info = link_message(index);
  info.ifi_flags = IFF_UP;
  info.ifi_change = IFF_UP;
  Message message(RTM_NEWLINK, 0, info);
  return transact(message, std::format("set link {} up", index));
}

Result<> Netlink::set_alias(int index, std::string_view alias) {
  CHECK(alias.size() < 256);
  Message message(RTM_SETLINK, 0, link_message(index));
  message.attribute(IFLA_IFALIAS, alias);
  return transact(message, std::format("set the alias of link {}", index));
}

Result<> Netlink::move_to_netns(int index, int netns) {
  Message message(RTM_NEWLINK, 0, link_message(index));
  message.attribute(IFLA_NET_NS_FD, netns);
  return transact(message, std::format("move link {} to another network namespace", index));
}

Result<> Netlink::remove_link(int index) {
  Message message(RTM_DELLINK, 0, link_message(index));
  return transact(message, std::format("remove link {}", index));
}

Result<> Netlink::add_address(int index, Ipv4 address, int prefix) {
  ifaddrmsg fixed{};
  fixed.ifa_family = AF_INET;
  fixed.ifa_prefixlen = static_cast<std::uint8_t>(prefix);
  fixed.ifa_index = static_cast<std::uint32_t>(index);
  Message message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, fixed);
  message.attribute(IFA_LOCAL, address);
  message.attribute(IFA_ADDRESS, address);
  return transact(message, std::format("add address {}/{} to link {}", address.str(), prefix, index));
}

namespace {
rtmsg route_message(const Netlink::Route& route) {
  rtmsg fixed{};
  fixed.rtm_family = AF_INET;
  fixed.rtm_dst_len = static_cast<std::uint8_t>(route.to.prefix);
  fixed.rtm_table = route.table == Netlink::RouteTable::Main ? RT_TABLE_MAIN : RT_TABLE_LOCAL;
  fixed.rtm_protocol = RTPROT_STATIC;
  if (route.kind == Netlink::RouteKind::Local) {
    fixed.rtm_type = RTN_LOCAL;
    fixed.rtm_scope = RT_SCOPE_HOST;
  } else {
    fixed.rtm_type = RTN_UNICAST;
    fixed.rtm_scope = route.gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
    if (route.gateway) fixed.rtm_flags = RTNH_F_ONLINK;
  }
  return fixed;
}
}  // namespace

Result<> Netlink::add_route(const Route& route) {
  Message message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route_message(route));
  message.attribute(RTA_DST, route.to.first);
  message.attribute(RTA_OIF, route.index);
  if (route.gateway) message.attribute(RTA_GATEWAY, *route.gateway);
  if (route.source) message.attribute(RTA_PREFSRC, *route.source);
  return transact(message, std::format("add the route to {} through link {}", route.to.str(), route.index));
}

Result<> Netlink::remove_route(const Route& route) {
  Message message(RTM_DELROUTE, 0, route_message(route));
  message.attribute(RTA_DST, route.to.first);
  message.attribute(RTA_OIF, route.index);
  return transact(message, std::format("remove the route to {} through link {}", route.to.str(), route.index));
}

}  // namespace skerry::os
