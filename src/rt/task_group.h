// SPDX-License-Identifier: Apache-2.0
// The only way to start a coroutine that nobody awaits. A group belongs to one object on one loop; its owner calls
// stop() and awaits it before the destructor, which CHECKs that nothing runs.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "rt/loop.h"

namespace skerry::rt {

class TaskGroup {
 public:
  explicit TaskGroup(Loop&);
  ~TaskGroup();  // CHECK: empty
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Starts `task` under a name. An Error it returns is logged as a warning with the name (Cancelled is not); an exception
  // other than cancellation aborts the process. After stop() a task is not started.
  void spawn(std::string_view name, Task<> task);
  // The same; the answer cancels this one task. It may be called at any time on the loop, also after the task's end.
  std::function<void()> spawn_cancellable(std::string_view name, Task<> task);
  std::size_t size() const;
  bool stopping() const;
  // Cancels every task and waits until all have unwound. Idempotent.
  Task<> stop();
  // Cancels without waiting; stop() must still be awaited.
  void cancel();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace skerry::rt
