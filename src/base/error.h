// SPDX-License-Identifier: Apache-2.0
// The one recoverable failure type, and Result<T>, which carries it. Expected failures are values; a bug is CHECK.
#pragma once
#include <expected>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

namespace skerry {

// A code exists only if some caller reacts differently to it. kube/status.h maps each to its HTTP status.
enum class Errc {
  NotFound,       // the named thing does not exist
  AlreadyExists,  // creation met an existing thing
  Conflict,       // a newer version exists; read again and retry
  Gone,           // a history that was compacted; list again
  Invalid,        // the input breaks a rule; the text says which and where
  Unsupported,    // valid, but not served by this product or version
  Denied,         // known caller, not allowed
  Unauthenticated,// unknown caller
  Exhausted,      // a limit of ours was reached
  Unavailable,    // a peer or device is not there now; a retry may help
  Timeout,        // a deadline passed
  Cancelled,      // the owner stopped it
  Corrupt,        // stored or received bytes are not what they must be
  Internal,       // anything else: errno without meaning to the caller
};
std::string_view to_string(Errc);

struct [[nodiscard]] Error {
  Errc code;
  std::string what;            // for the operator: the operation, its object, the peer's own words
  std::source_location where;  // where it was first seen; never on the wire
  Error(Errc c, std::string w, std::source_location at = std::source_location::current())
      : code(c), what(std::move(w)), where(at) {}
  // The same error with `context: ` in front, for one layer up.
  Error with(std::string_view context) const;
};

template <class T = void>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using std::expected<T, Error>::expected;
  Result(std::expected<T, Error> other) : std::expected<T, Error>(std::move(other)) {}
};
using Fail = std::unexpected<Error>;

// Error from errno: `operation object: strerror`. ENOENT, EEXIST, EACCES/EPERM, ENOSPC/EMFILE/ENOMEM, ETIMEDOUT get their code.
Error errno_error(int error, std::string_view operation,
                  std::source_location at = std::source_location::current());

}  // namespace skerry

// TRY(auto x, f()) declares x or returns the error; TRY_OK(f()) has no value. The CO_ forms are for coroutines whose
// result is a Result. Declarations, not statement expressions: g++ 14.2 dies on a co_await inside ({ }).
#define SKERRY_CAT2(a, b) a##b
#define SKERRY_CAT(a, b) SKERRY_CAT2(a, b)
#define SKERRY_TRY(ret, tmp, decl, ...)                        \
  auto tmp = (__VA_ARGS__);                                    \
  if (!tmp) [[unlikely]] ret ::skerry::Fail(std::move(tmp).error()); \
  decl = std::move(*tmp)
#define SKERRY_TRY_OK(ret, tmp, ...)                           \
  if (auto tmp = (__VA_ARGS__); !tmp) [[unlikely]] ret ::skerry::Fail(std::move(tmp).error())
#define TRY(decl, ...) SKERRY_TRY(return, SKERRY_CAT(try_, __COUNTER__), decl, __VA_ARGS__)
#define TRY_OK(...) SKERRY_TRY_OK(return, SKERRY_CAT(try_, __COUNTER__), __VA_ARGS__)
#define CO_TRY(decl, ...) SKERRY_TRY(co_return, SKERRY_CAT(try_, __COUNTER__), decl, __VA_ARGS__)
#define CO_TRY_OK(...) SKERRY_TRY_OK(co_return, SKERRY_CAT(try_, __COUNTER__), __VA_ARGS__)
