;; SPDX-License-Identifier: Apache-2.0
;; A memory of no pages at first. Each request grows it by one, answers 500 unless the new page is zero, and fills it.
(module
  (import "http_handler" "set_status_code" (func $set_status_code (param i32)))
  (memory (export "memory") 0)
  (func (export "handle_request") (result i64) (local $at i32)
    (local.set $at (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))
    (if (i32.or (i64.ne (i64.load (local.get $at)) (i64.const 0)) (i64.ne (i64.load offset=65528 (local.get $at)) (i64.const 0)))
      (then (call $set_status_code (i32.const 500))))
    (memory.fill (local.get $at) (i32.const 255) (i32.const 65536))
    (i64.const 0))
  (func (export "handle_response") (param i32 i32)))
