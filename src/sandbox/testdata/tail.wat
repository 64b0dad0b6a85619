;; SPDX-License-Identifier: Apache-2.0
;; A function that ends by calling itself, which the compiler makes a loop of that never looks whether it was cancelled.
;; Every second request calls it.
(module
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (func $again (param i32) (result i32) (i32.add (call $again (i32.add (local.get 0) (i32.load (i32.const 0)))) (i32.const 1)))
  (func (export "handle_request") (result i64)
    (global.set $calls (i32.xor (global.get $calls) (i32.const 1)))
    (if (i32.eqz (global.get $calls)) (then (i32.store (i32.const 0) (call $again (i32.const 0)))))
    (i64.const 0))
  (func (export "handle_response") (param i32 i32)))
