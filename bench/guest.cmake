# SPDX-License-Identifier: Apache-2.0
# The guest side alone: skerry-bench-guest runs skerry-guest-serve (no keeper, no hardening) against nginx's `return 200`.
add_custom_target(skerry-bench-guest ALL
  COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_SOURCE_DIR}/guest_bench.sh ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/skerry-bench-guest
  COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_BINARY_DIR}/src/sandbox/native/static.so ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/static.so
  COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_BINARY_DIR}/src/sandbox/native/static.so.sha256 ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/static.so.sha256
  DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/guest_bench.sh)
add_dependencies(skerry-bench-guest skerry-guest-serve skerry_bench_guests)
