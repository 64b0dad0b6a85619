// SPDX-License-Identifier: Apache-2.0
// metav1.Status: what the API answers when it has no object to answer. The texts, reasons and codes are contract
// (clients compare them): status_test.cc holds them as golden.
//
// ApiResult<T> is the result of functions on the request path, whose failures are answers to a client: each needs a code, a
// reason and details that Errc cannot hold. TRY_API and CO_TRY_API are its TRY.
#pragma once
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace skerry::kube {

struct ResourceType;

struct StatusCause {
  std::string reason;   // "FieldValueInvalid"
  std::string message;
  std::string field;
};

struct [[nodiscard]] Status {
  int code = 200;
  std::string status = "Failure";  // or "Success"
  std::string reason, message;
  struct Details {
    std::string name, group, kind, uid;
    std::vector<StatusCause> causes;
    int retry_after_seconds = 0;
    bool present = false;  // written even if all is empty
  } details;

  std::string json() const;  // kind Status, apiVersion v1
  std::string text() const { return message; }
};

template <class T = void>
using ApiResult = std::expected<T, Status>;
using ApiFail = std::unexpected<Status>;

// `resource` is the plural name; `group` "" for core.
Status status_not_found(std::string_view group, std::string_view resource, std::string_view name);  // 404
Status status_unknown_path();                                                   // 404, the server could not find …
Status status_already_exists(std::string_view group, std::string_view resource, std::string_view name);  // 409
// 409: Operation cannot be fulfilled on RESOURCE "NAME": TEXT
Status status_conflict(std::string_view group, std::string_view resource, std::string_view name, std::string_view text);
// The usual text of a conflict: a stale resourceVersion.
inline constexpr std::string_view kModified =
    "the object has been modified; please apply your changes to the latest version and try again";
Status status_bad_request(std::string_view message);                            // 400
Status status_unauthorized();                                                   // 401
Status status_forbidden(std::string_view group, std::string_view resource, std::string_view name,
                        std::string_view text);                                 // 403
Status status_method_not_allowed();                                             // 405
Status status_not_acceptable(std::string_view accepted);                        // 406
Status status_unsupported_media_type(std::string_view accepted);                // 415
Status status_gone(std::string_view message);                                   // 410 Expired
Status status_too_large(std::string_view message);                              // 413
struct FieldError;
Status status_invalid(std::string_view group, std::string_view kind, std::string_view name,
                      const std::vector<FieldError>& errors);                   // 422
Status status_too_many_requests(std::string_view message, int retry_after_seconds);  // 429
Status status_internal(std::string_view message);                               // 500
Status status_not_implemented(std::string_view message);                        // 501
Status status_unavailable(std::string_view message);                            // 503
Status status_timeout(std::string_view message);                                // 504
Status status_success(std::string_view group, std::string_view resource, std::string_view name, std::string_view uid);
// For errors that carry no more than an Errc: the one mapping of Errc to a Status.
Status status_of(const Error&);

}  // namespace skerry::kube

#define SKERRY_TRY_API(ret, tmp, decl, ...)                                         \
  auto tmp = (__VA_ARGS__);                                                         \
  if (!tmp) [[unlikely]] ret ::skerry::kube::ApiFail(std::move(tmp).error());       \
  decl = std::move(*tmp)
#define SKERRY_TRY_API_OK(ret, tmp, ...)                                            \
  if (auto tmp = (__VA_ARGS__); !tmp) [[unlikely]] ret ::skerry::kube::ApiFail(std::move(tmp).error())
#define TRY_API(decl, ...) SKERRY_TRY_API(return, SKERRY_CAT(try_, __COUNTER__), decl, __VA_ARGS__)
#define TRY_API_OK(...) SKERRY_TRY_API_OK(return, SKERRY_CAT(try_, __COUNTER__), __VA_ARGS__)
#define CO_TRY_API(decl, ...) SKERRY_TRY_API(co_return, SKERRY_CAT(try_, __COUNTER__), decl, __VA_ARGS__)
#define CO_TRY_API_OK(...) SKERRY_TRY_API_OK(co_return, SKERRY_CAT(try_, __COUNTER__), __VA_ARGS__)
