;; SPDX-License-Identifier: Apache-2.0
;; Its start section never ends, and cannot be cancelled: it runs while instantiating.
(module
  (memory (export "memory") 1)
  (func $forever (loop $l (br $l)))
  (start $forever)
  (func (export "handle_request") (result i64) (i64.const 0))
  (func (export "handle_response") (param i32 i32)))
