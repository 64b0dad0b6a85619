# SPDX-License-Identifier: Apache-2.0
option(SKERRY_WERROR "Warnings are errors" ON)
add_compile_options(-Wall -Wextra -Wconversion -Wshadow $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
  $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual> -fno-omit-frame-pointer)
if(SKERRY_WERROR)
  add_compile_options(-Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # std::expected<void, E> at -O2 gives a false positive in g++ 14.2.
  add_compile_options(-Wno-maybe-uninitialized)
endif()
