# Warnings, sanitizers, and the two helpers that core, plugins and tests are declared with.

include(CheckCCompilerFlag)
add_library(fms_flags INTERFACE)
target_compile_definitions(fms_flags INTERFACE _GNU_SOURCE
  _FILE_OFFSET_BITS=64 _TIME_BITS=64) # on 32 bit, files above 2 GiB and times after 2038
target_compile_options(fms_flags INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes
  -fno-omit-frame-pointer $<$<BOOL:${FMS_WERROR}>:-Werror>)
if(FMS_SANITIZE)
  target_compile_options(fms_flags INTERFACE -fsanitize=${FMS_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(fms_flags INTERFACE -fsanitize=${FMS_SANITIZE})
endif()

# What each program of a thread sanitizer build has besides its own sources; see the file for why.
if(FMS_SANITIZE MATCHES thread)
  add_library(fms_tsan_shim OBJECT ${PROJECT_SOURCE_DIR}/tests/tsan_shim.c)
  target_link_libraries(fms_tsan_shim PRIVATE fms_flags)
  set(fms_program_objects $<TARGET_OBJECTS:fms_tsan_shim>)
  set(CMAKE_ENABLE_EXPORTS ON)
endif()

# gcc for x86 clears and copies structs of 100 to 8,192 bytes by `rep stos` and `rep movs`, and what is read of them next waits for all of it:
# 17 of the 73 ns that a message takes in mqtt_ingest.
set(strategy vector_loop:512:noalign,libcall:-1:noalign)
check_c_compiler_flag("-mmemset-strategy=${strategy} -mmemcpy-strategy=${strategy}" FMS_HAS_STRATEGIES)
if(FMS_HAS_STRATEGIES)
  target_compile_options(fms_flags INTERFACE -mmemset-strategy=${strategy} -mmemcpy-strategy=${strategy})
endif()

# Hardening: an overrun ends the program and is no way in. Canaries stand behind buffers of 8 bytes or more: -fstack-protector-strong, behind
# every local whose address is taken, costs up to 2 % of a record's instructions, these none that can be measured. FORTIFY needs
# an optimizing build and knows nothing of sanitizers, which find more.
target_compile_options(fms_flags INTERFACE -fstack-protector)
target_link_options(fms_flags INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
if(NOT FMS_SANITIZE AND NOT CMAKE_C_FLAGS MATCHES "_FORTIFY_SOURCE") # nor a choice of the user's
  target_compile_options(fms_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2>)
endif()

if(FMS_COVERAGE)
  target_compile_options(fms_flags INTERFACE --coverage -fprofile-update=atomic) # threads count too
  target_link_options(fms_flags INTERFACE --coverage)
endif()
if(FMS_FUZZ)
  if(NOT FMS_SANITIZE)
    message(FATAL_ERROR "FMS_FUZZ finds little without sanitizers: set FMS_SANITIZE=address,undefined as well")
  endif()
  target_compile_options(fms_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(FMS_LINT)
  set(CMAKE_C_CLANG_TIDY clang-tidy --quiet --warnings-as-errors=*)
endif()

# The one header that a plugin may include, as a target of its own: nothing else of the core is on a plugin's path.
add_library(fms_plugin_header INTERFACE)
target_include_directories(fms_plugin_header INTERFACE
  $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
configure_file(${PROJECT_SOURCE_DIR}/core/fms_plugin.h ${PROJECT_BINARY_DIR}/include/fms_plugin.h COPYONLY)

# fms_find(TARGET...): the libraries that these targets stand for, where they are used and nowhere else, so that a plugin which
# is not built needs none.
macro(fms_find)
  foreach(target ${ARGN})
    string(REGEX REPLACE "::.*" "" package ${target})
    string(REGEX REPLACE ".*::" "" module ${target})
    if(package STREQUAL PkgConfig AND NOT TARGET ${target})
      pkg_check_modules(${module} REQUIRED IMPORTED_TARGET GLOBAL ${module})
    elseif(NOT package STREQUAL target AND NOT TARGET ${target})
      find_package(OpenSSL REQUIRED) # the paho package names its targets
      find_package(${package} REQUIRED)
    endif()
  endforeach()
endmacro()

# fms_plugin(NAME SOURCES a.c ... [LIBRARIES ...]): plugins/NAME.so
function(fms_plugin name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
  fms_find(${arg_LIBRARIES})
  add_library(${name} MODULE ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES PREFIX "" C_VISIBILITY_PRESET hidden
    LIBRARY_OUTPUT_DIRECTORY ${FMS_PLUGIN_OUTPUT_DIRECTORY})
  target_compile_definitions(${name} PRIVATE FMS_VERSION="${PROJECT_VERSION}")
  target_link_libraries(${name} PRIVATE fms_flags fms_plugin_header ${arg_LIBRARIES})
  install(TARGETS ${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/fmspipe/plugins)
endfunction()

# fms_embed_lines(FILE NAME TARGET...): each line of a text file but comments, as a string, a comma behind it: for #include <NAME>
function(fms_embed_lines file name)
  set(folder ${PROJECT_BINARY_DIR}/embedded)
  get_filename_component(file ${file} ABSOLUTE)
  file(STRINGS ${file} lines REGEX "^[^#]")
  set(text "")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "[ \t]*#.*" "" line "${line}")
    string(APPEND text "\"${line}\",\n")
  endforeach()
  file(WRITE ${folder}/${name}.new "${text}")
  configure_file(${folder}/${name}.new ${folder}/${name} COPYONLY) # what has not changed builds nothing
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  foreach(target ${ARGN})
    target_include_directories(${target} PRIVATE ${folder})
  endforeach()
endfunction()
