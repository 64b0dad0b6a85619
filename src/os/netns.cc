// SPDX-License-Identifier: Apache-2.0
#include "os/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include <cerrno>
#include <format>

#include "base/check.h"
#include "os/netlink.h"

namespace skerry::os {
namespace {

constexpr const char* kOwn = "/proc/thread-self/ns/net";

Error namespace_error(int error, std::string_view operation) {
  if (error == EPERM) {
    return {Errc::Denied,
            std::format("{}: the kernel refused; the node needs to run as root (CAP_SYS_ADMIN)", operation)};
  }
  return errno_error(error, operation);
}

Result<bool> is_namespace(int fd) {
  struct statfs info {};
  if (::fstatfs(fd, &info) != 0) return Fail(errno_error(errno, "inspect a network namespace file"));
  return info.f_type == NSFS_MAGIC;
}

// Makes a namespace on this thread, with lo up, hands its descriptor to `use`, and goes home.
template <class Use>
Result<UniqueFd> make(Use use) {
  TRY(UniqueFd home, current_netns());
  if (::unshare(CLONE_NEWNET) != 0) return Fail(namespace_error(errno, "create a network namespace"));
  auto made = [&]() -> Result<UniqueFd> {
    TRY(auto netlink, Netlink::open());
    TRY(const auto loopback, netlink.link("lo"));
    TRY_OK(netlink.set_up(loopback.index));
    TRY_OK(use());
    return current_netns();
  }();
  CHECK(::setns(home.get(), CLONE_NEWNET) == 0);
  return made;
}

}  // namespace

Result<UniqueFd> current_netns() {
  UniqueFd fd(::open(kOwn, O_RDONLY | O_CLOEXEC));
  if (!fd) return Fail(errno_error(errno, std::format("open {}", kOwn)));
  return fd;
}

Result<UniqueFd> open_netns(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Fail(errno_error(errno, std::format("open the network namespace {}", path.string())));
  TRY(const bool real, is_namespace(fd.get()));
  if (!real)
    return Fail({Errc::NotFound, std::format("{} is not a network namespace (a leftover of a reboot)", path.string())});
  return fd;
}

Result<UniqueFd> create_netns(const std::filesystem::path& path) {
  UniqueFd mount_point(::open(path.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0444));
  if (!mount_point) return Fail(errno_error(errno, std::format("create the mount point {}", path.string())));
  TRY(const bool exists, is_namespace(mount_point.get()));
  if (exists) return Fail({Errc::AlreadyExists, std::format("the network namespace {} exists", path.string())});
  return make([&]() -> Result<> {
    if (::mount(kOwn, path.c_str(), "none", MS_BIND, nullptr) != 0) {
      return Fail(namespace_error(errno, std::format("keep a network namespace at {}", path.string())));
    }
    return {};
  });
}

Result<UniqueFd> create_anonymous_netns() {
  return make([]() -> Result<> { return {}; });
}

Result<> remove_netns(const std::filesystem::path& path) {
  while (::umount2(path.c_str(), MNT_DETACH) == 0) {
  }
  if (errno != EINVAL && errno != ENOENT) {
    return Fail(namespace_error(errno, std::format("unmount the network namespace {}", path.string())));
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Fail(errno_error(errno, std::format("remove {}", path.string())));
  }
  return {};
}

Result<NetnsScope> NetnsScope::enter(int netns) {
  TRY(UniqueFd home, current_netns());
  if (::setns(netns, CLONE_NEWNET) != 0) return Fail(namespace_error(errno, "enter a network namespace"));
  return NetnsScope(std::move(home));
}

NetnsScope::~NetnsScope() {
  if (home_) CHECK(::setns(home_.get(), CLONE_NEWNET) == 0);
}

}  // namespace skerry::os
