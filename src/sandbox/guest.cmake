# SPDX-License-Identifier: Apache-2.0
# The guest side of a sandbox.
include(llvm_stub)
skerry_llvm_stub(skerry_llvm_stub)

add_executable(skerry_stub_probe EXCLUDE_FROM_ALL stub_probe.cc)
target_link_libraries(skerry_stub_probe PRIVATE skerry_wasm)
skerry_link_llvm_stub(skerry_stub_probe skerry_llvm_stub)
