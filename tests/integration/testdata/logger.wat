;; SPDX-License-Identifier: Apache-2.0
;; Logs the URI of each request as one line, and answers 200 with it. `/spin` burns processor time for a while first.
(module
  (import "http_handler" "get_uri" (func $get_uri (param i32 i32) (result i32)))
  (import "http_handler" "log" (func $log (param i32 i32 i32)))
  (import "http_handler" "write_body" (func $write_body (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "handle_request") (result i64)
    (local $n i32) (local $i i32)
    (local.set $n (call $get_uri (i32.const 1024) (i32.const 1024)))
    (call $log (i32.const 0) (i32.const 1024) (local.get $n))
    (if (i32.eq (i32.load8_u (i32.const 1025)) (i32.const 115))  ;; /s…
      (then
        (local.set $i (i32.const 100000000))
        (loop $again
          (i32.store (i32.const 8192) (local.get $i))
          (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))))
    (call $write_body (i32.const 1) (i32.const 1024) (local.get $n))
    (i64.const 0))
  (func (export "handle_response") (param i32 i32)))
