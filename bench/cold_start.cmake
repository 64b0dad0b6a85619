# SPDX-License-Identifier: Apache-2.0
add_executable(skerry-bench-cold cold_start.cc)
target_link_libraries(skerry-bench-cold PRIVATE skerry_sandbox_wire skerry_metrics_page)
