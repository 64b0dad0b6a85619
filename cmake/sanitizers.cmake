# SPDX-License-Identifier: Apache-2.0
if(SKERRY_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
elseif(SKERRY_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
  # g++ warns that TSan does not model fences; Asio uses one at shutdown.
  add_compile_options(-Wno-tsan)
elseif(NOT SKERRY_SANITIZE STREQUAL "")
  message(FATAL_ERROR "SKERRY_SANITIZE=${SKERRY_SANITIZE} is unknown; use address, thread, or leave it empty")
endif()
if(SKERRY_FUZZ)
  # Coverage in every module; the driver is linked into the targets of fuzz/ alone.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
