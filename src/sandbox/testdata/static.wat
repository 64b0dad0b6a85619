;; SPDX-License-Identifier: Apache-2.0
;; The handler that the bench compares with nginx's `return 200`: reads the URI, sets a header, writes 1 KB.
(module
  (import "http_handler" "get_uri" (func $get_uri (param i32 i32) (result i32)))
  (import "http_handler" "set_header_value" (func $set_header_value (param i32 i32 i32 i32 i32)))
  (import "http_handler" "write_body" (func $write_body (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "content-type")
  (data (i32.const 16) "text/plain")
  (func $fill (export "_initialize")
    (memory.fill (i32.const 1024) (i32.const 120) (i32.const 1024)))
  (func (export "handle_request") (result i64)
    (drop (call $get_uri (i32.const 4096) (i32.const 1024)))
    (call $set_header_value (i32.const 1) (i32.const 0) (i32.const 12) (i32.const 16) (i32.const 10))
    (call $write_body (i32.const 1) (i32.const 1024) (i32.const 1024))
    (i64.const 0))
  (func (export "handle_response") (param i32 i32)))
