# SPDX-License-Identifier: Apache-2.0
# The stand-in for libLLVM. libwasmedge is linked to it, but running native modules needs none of it, and mapping it costs
# every sandbox 7.5 MB of relocations and 16 ms. So skerry-sandbox is linked to a library of the same soname that exports,
# under the same version, exactly the symbols which the installed libwasmedge asks for; each returns 0.
#
# Made at build time from the installed libwasmedge, into bin/stub/. skerry-sandbox names it first among its own libraries
# and finds it by DT_RUNPATH ($ORIGIN/stub; once installed $ORIGIN/../lib/skerry): a loaded soname is not searched for again, so libwasmedge's own
# search path ($ORIGIN) does not matter. Where the stand-in is missing, or does not fit after an upgrade of the package
# (the loader then ends with exit code 127), LD_LIBRARY_PATH=<folder of libwasmedge> selects the real one;
# wasm::compiler_is_stand_in() tells which it is.
#
#   skerry_llvm_stub(target)                    defines the shared library
#   skerry_link_llvm_stub(executable target)    links it first, with the search path
function(skerry_llvm_stub target)
  find_library(wasmedge_library wasmedge REQUIRED)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/llvm_stub)
  file(MAKE_DIRECTORY ${folder} ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/stub)
  # The soname is needed to name the output, so it is read when configuring; the symbols are read when building.
  file(REAL_PATH ${wasmedge_library} wasmedge_real)
  execute_process(COMMAND ${CMAKE_READELF} -dW ${wasmedge_real} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
  if(NOT dynamic MATCHES "NEEDED[^\n]*\\[(libLLVM[^]\n]*)\\]")
    message(FATAL_ERROR "${wasmedge_real} does not need a libLLVM: link skerry-sandbox to it as it is, without the stand-in")
  endif()
  set(soname ${CMAKE_MATCH_1})
  set(output ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/stub/${soname})
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DWASMEDGE=${wasmedge_real} -DSONAME=${soname} -DFOLDER=${folder} -DOUTPUT=${output} -DREADELF=${CMAKE_READELF}
            -DCC=${CMAKE_C_COMPILER} -P ${CMAKE_SOURCE_DIR}/cmake/make_llvm_stub.cmake
    DEPENDS ${wasmedge_real} ${CMAKE_SOURCE_DIR}/cmake/make_llvm_stub.cmake
    COMMENT "Stand-in for ${soname}" VERBATIM)
  add_custom_target(${target}_file DEPENDS ${output})
  add_library(${target} SHARED IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION ${output} IMPORTED_SONAME ${soname})
  add_dependencies(${target} ${target}_file)
endfunction()

function(skerry_link_llvm_stub executable target)
  add_dependencies(${executable} ${target}_file)
  get_target_property(location ${target} IMPORTED_LOCATION)
  # CMake's own property, not a link option: what quoting $ORIGIN needs there differs between versions of CMake.
  set_target_properties(${executable} PROPERTIES BUILD_RPATH "$ORIGIN/stub" INSTALL_RPATH "$ORIGIN/../lib/skerry")
  target_link_options(${executable} PRIVATE -Wl,--no-as-needed ${location} -Wl,--as-needed -Wl,--enable-new-dtags)
  set_property(TARGET ${executable} APPEND PROPERTY LINK_DEPENDS ${location})
endfunction()
