;; SPDX-License-Identifier: Apache-2.0
;; Compiled natively and not interruptible: the host's whole event loop runs inside this call (guest.cc), so cancelling a
;; guest's call, which shares the executor's stop token, cannot end it.
(module
  (import "skerry" "loop" (func $loop))
  (func (export "run") (call $loop)))
