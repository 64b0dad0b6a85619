// SPDX-License-Identifier: Apache-2.0
// The template of Loop::run_one; included by loop.h.
#pragma once
#include <boost/asio/co_spawn.hpp>
#include <exception>
#include <optional>

#include "base/check.h"

namespace skerry::rt {

template <class T>
Result<T> Loop::run_one(Task<T> task) {
  asio::io_context context(1);
  std::optional<Result<T>> out;
  asio::co_spawn(context, std::move(task), [&out](std::exception_ptr error, Result<T> result) {
    if (error) std::rethrow_exception(error);
    out.emplace(std::move(result));
  });
  context.run();
  CHECK(out.has_value());
  return std::move(*out);
}

}  // namespace skerry::rt
