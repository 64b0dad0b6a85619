# SPDX-License-Identifier: Apache-2.0
# The guest side of a sandbox: target skerry_sandbox_guest (with libwasmedge), and the stand-in for libLLVM to link first.
include(llvm_stub)
skerry_llvm_stub(skerry_llvm_stub)
find_library(SKERRY_LLHTTP libllhttp.a REQUIRED)
find_program(SKERRY_WAT2WASM wat2wasm REQUIRED)

# skerry_native(OUT WAT [option …]) compiles a .wat of this folder (or of anywhere) to native code with our own compiler.
function(skerry_native variable wat)
  get_filename_component(name ${wat} NAME_WE)
  get_filename_component(source ${wat} ABSOLUTE)
  set(base ${CMAKE_CURRENT_BINARY_DIR}/native/${name})
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/native)
  add_custom_command(OUTPUT ${base}.so ${base}.wasm
    COMMAND ${SKERRY_WAT2WASM} ${source} -o ${base}.wasm
    COMMAND ${CMAKE_COMMAND} -E env ASAN_OPTIONS=detect_leaks=0 $<TARGET_FILE:skerry-compile> --in ${base}.wasm --out ${base}.so --generic-binary ${ARGN}
    DEPENDS ${source} skerry-compile
    COMMENT "Native code of ${wat}" VERBATIM)
  set(${variable} ${base}.so PARENT_SCOPE)
endfunction()

skerry_native(trampoline trampoline.wat --not-interruptible --unchecked)
skerry_native(drain drain.wat)
set_source_files_properties(guest.cc PROPERTIES OBJECT_DEPENDS "${trampoline};${drain}"
  COMPILE_DEFINITIONS "SKERRY_TRAMPOLINE_FILE=\"${trampoline}\";SKERRY_DRAIN_FILE=\"${drain}\"")

skerry_module(sandbox_guest LAYER 3
  SOURCES cgi_environment.cc cgi_response.cc deadline.cc guest.cc guest_http_handler.cc guest_log.cc guest_runtime.cc guest_wagi.cc
          guest_wasi.cc http_connection.cc http_message.cc http_output.cc http_server.cc
          http_server_output.cc zero_map.cc
  DEPS base metrics_page sandbox_wire wasm wasm_cache
  PRIVATE_LIBS ${SKERRY_LLHTTP}
  TESTS cgi_test.cc guest_break_test.cc guest_http_test.cc guest_test_kit.cc http_server_test.cc)
# asm() embeds the helpers' native code, which link-time optimisation would drop.
set_source_files_properties(guest.cc PROPERTIES COMPILE_OPTIONS -fno-lto)

# Test guests in C, as users build them.
function(skerry_guest_c variable source)
  get_filename_component(name ${source} NAME_WE)
  set(base ${CMAKE_CURRENT_BINARY_DIR}/native/${name})
  add_custom_command(OUTPUT ${base}.so ${base}.wasm
    COMMAND clang-19 --target=wasm32-wasi -O2 ${ARGN} ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${base}.wasm
    COMMAND ${CMAKE_COMMAND} -E env ASAN_OPTIONS=detect_leaks=0 $<TARGET_FILE:skerry-compile> --in ${base}.wasm --out ${base}.so --generic-binary
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source} skerry-compile
    COMMENT "Native code of ${source}" VERBATIM)
  set(${variable} ${base}.so PARENT_SCOPE)
endfunction()
if(SKERRY_TESTS)
  skerry_guest_c(handler_guest testdata/handler.c -mexec-model=reactor)
  skerry_guest_c(wagi_guest testdata/wagi.c)
  skerry_native(hungry_guest testdata/hungry.wat)
  skerry_native(looping_guest testdata/looping_start.wat)
  skerry_native(growing_guest testdata/growing.wat)
  skerry_native(started_guest testdata/started.wat)
  skerry_native(tail_guest testdata/tail.wat)
  # 20,000 locals, without optimisation: each call takes a frame of 160 KB.
  string(REPEAT " i64" 20000 WIDE_LOCALS)
  configure_file(testdata/wide.wat.in ${CMAKE_CURRENT_BINARY_DIR}/native/wide.wat @ONLY)
  skerry_native(wide_guest ${CMAKE_CURRENT_BINARY_DIR}/native/wide.wat --optimise O0)
  add_custom_target(skerry_test_guests DEPENDS ${handler_guest} ${wagi_guest} ${hungry_guest} ${looping_guest} ${growing_guest} ${started_guest}
    ${tail_guest} ${wide_guest})
  add_dependencies(sandbox_guest_test skerry_test_guests)
  target_compile_definitions(sandbox_guest_test PRIVATE SKERRY_TEST_NATIVE="${CMAKE_CURRENT_BINARY_DIR}/native")
endif()

# Serves one module by hand and for benches.
add_executable(skerry-guest-serve EXCLUDE_FROM_ALL guest_serve_main.cc)
target_link_libraries(skerry-guest-serve PRIVATE skerry_sandbox_guest)
skerry_link_llvm_stub(skerry-guest-serve skerry_llvm_stub)
skerry_native(static_guest testdata/static.wat)
add_custom_target(skerry_bench_guests DEPENDS ${static_guest})

if(SKERRY_TESTS)
  add_executable(skerry_stub_probe stub_probe.cc)
  target_link_libraries(skerry_stub_probe PRIVATE skerry_wasm)
  skerry_link_llvm_stub(skerry_stub_probe skerry_llvm_stub)
  add_test(NAME llvm_stub_test COMMAND skerry_stub_probe)
endif()
