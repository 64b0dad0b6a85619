;; SPDX-License-Identifier: Apache-2.0
;; Asks for 64 MiB at once: more than the limit of the test that loads it.
(module
  (memory (export "memory") 1024)
  (func (export "handle_request") (result i64) (i64.const 0))
  (func (export "handle_response") (param i32 i32)))
