// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <cerrno>
#include <format>
#include <system_error>

namespace skerry {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::NotFound: return "NotFound";
    case Errc::AlreadyExists: return "AlreadyExists";
    case Errc::Conflict: return "Conflict";
    case Errc::Gone: return "Gone";
    case Errc::Invalid: return "Invalid";
    case Errc::Unsupported: return "Unsupported";
    case Errc::Denied: return "Denied";
    case Errc::Unauthenticated: return "Unauthenticated";
    case Errc::Exhausted: return "Exhausted";
    case Errc::Unavailable: return "Unavailable";
    case Errc::Timeout: return "Timeout";
    case Errc::Cancelled: return "Cancelled";
    case Errc::Corrupt: return "Corrupt";
    case Errc::Internal: return "Internal";
  }
  return "Internal";
}

Error Error::with(std::string_view context) const { return {code, std::format("{}: {}", context, what), where}; }

Error errno_error(int error, std::string_view operation, std::source_location at) {
  Errc code = Errc::Internal;
  switch (error) {
    case ENOENT: case ESRCH: case ENODEV: code = Errc::NotFound; break;
    case EEXIST: case EADDRINUSE: code = Errc::AlreadyExists; break;
    case EACCES: case EPERM: code = Errc::Denied; break;
    case ENOSPC: case EMFILE: case ENFILE: case ENOMEM: case EDQUOT: code = Errc::Exhausted; break;
    case ETIMEDOUT: code = Errc::Timeout; break;
    case ECONNREFUSED: case ECONNRESET: case EHOSTUNREACH: case ENETUNREACH: case EPIPE: case EAGAIN:
      code = Errc::Unavailable;
      break;
    default: break;
  }
  return {code, std::format("{}: {}", operation, std::generic_category().message(error)), at};
}

}  // namespace skerry
