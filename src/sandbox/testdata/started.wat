;; SPDX-License-Identifier: Apache-2.0
;; A handler that is prepared by _start, as Rust's are; answers 500 if it was not, or more than once, and then traps every
;; second time.
(module
  (import "http_handler" "set_status_code" (func $set_status_code (param i32)))
  (memory (export "memory") 1)
  (global $starts (mut i32) (i32.const 0))
  (global $calls (mut i32) (i32.const 0))
  (func (export "_start") (global.set $starts (i32.add (global.get $starts) (i32.const 1))))
  (func (export "handle_request") (result i64)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (if (i32.eq (global.get $calls) (i32.const 2)) (then unreachable))
    (if (i32.ne (global.get $starts) (i32.const 1)) (then (call $set_status_code (i32.const 500))))
    (i64.const 0))
  (func (export "handle_response") (param i32 i32)))
