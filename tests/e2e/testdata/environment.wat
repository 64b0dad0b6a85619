;; SPDX-License-Identifier: Apache-2.0
;; Answers every request with its environment, NAME=VALUE each ended by a zero byte.
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
  (import "http_handler" "write_body" (func $write_body (param i32 i32 i32)))
  (memory (export "memory") 2)
  ;; 0: how many, 4: their bytes; from 1024 on the addresses, from 65536 on the texts
  (func (export "handle_request") (result i64)
    (if (call $sizes (i32.const 0) (i32.const 4)) (then unreachable))
    (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 16000)) (then unreachable))
    (if (i32.gt_u (i32.load (i32.const 4)) (i32.const 65536)) (then unreachable))
    (if (call $get (i32.const 1024) (i32.const 65536)) (then unreachable))
    (call $write_body (i32.const 1) (i32.const 65536) (i32.load (i32.const 4)))
    (i64.const 0))
  (func (export "handle_response") (param i32 i32)))
