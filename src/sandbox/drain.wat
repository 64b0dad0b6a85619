;; SPDX-License-Identifier: Apache-2.0
;; Compiled interruptible: a call of it takes a stop token that is still set (CallExecutor::drain_stale_cancel).
(module
  (func (export "drain")
    (local $n i32)
    (loop $again
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 3))))))
