// SPDX-License-Identifier: Apache-2.0
// For tests: runs one task on a loop until it ends, and nothing more; what else is spawned goes on at the next call.
#pragma once
#include <optional>

#include "rt/loop.h"
#include "rt/task_group.h"

namespace skerry {

template <class T>
rt::Task<> keep_result(rt::Task<T> task, std::optional<Result<T>>& out) {
  out.emplace(co_await std::move(task));
  co_return Result<>{};
}
template <class T>
Result<T> run_on(rt::Loop& loop, rt::Task<T> task) {
  std::optional<Result<T>> out;
  rt::TaskGroup group(loop);
  group.spawn("test", keep_result(std::move(task), out));
  while (!out || group.size() > 0) loop.context().run_one();
  return std::move(*out);
}

}  // namespace skerry
