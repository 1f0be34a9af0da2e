# cmake/octet.cmake - flags, dependencies and the three shapes of target: room, test, fuzz target.

# One interface target carries the flags of all our own code. Float expressions mean what they say
# (docs/numerics.md): no contraction, no reassociation.
add_library(oct_flags INTERFACE)
target_compile_definitions(oct_flags INTERFACE _GNU_SOURCE OCT_VERSION="${PROJECT_VERSION}")
target_compile_options(oct_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
  -Wwrite-strings -Wundef -Wvla -Wformat=2 -ffp-contract=off -fno-math-errno)
target_include_directories(oct_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
target_compile_options(oct_flags INTERFACE ${OCT_FREE_ORDER})
if(OCT_WERROR)
  target_compile_options(oct_flags INTERFACE -Werror)
endif()
if(OCT_DEBUG)
  target_compile_definitions(oct_flags INTERFACE OCT_DEBUG=1)
endif()
if(OCT_SANITIZE)
  add_compile_options(-fsanitize=${OCT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${OCT_SANITIZE})
endif()
if(OCT_FUZZ)
  # The rooms too, not only the fuzz targets: without it libFuzzer sees no branch of what it feeds.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

# oct_dep(name pkg-config-module): an imported target dep_NAME.
function(oct_dep name module)
  pkg_check_modules(${name} REQUIRED IMPORTED_TARGET ${module})
  add_library(dep_${name} INTERFACE)
  if(OCT_PORTABLE)
    # The archive of each library that pkg-config --static lists. libc's own stay shared; one without
    # an archive is linked as it is and copied beside the program (OCT_PORTABLE_SHARED).
    set(libs ${${name}_STATIC_LIBRARIES})
    if(bsd IN_LIST libs)
      list(APPEND libs md) # libbsd's archive needs it and its .pc file does not say so
    endif()
    foreach(lib ${libs})
      if(lib MATCHES "^(c|m|dl|rt|pthread)$")
        target_link_libraries(dep_${name} INTERFACE ${lib})
        continue()
      endif()
      find_library(${name}_${lib}_A NAMES lib${lib}.a HINTS ${${name}_STATIC_LIBRARY_DIRS})
      if(${name}_${lib}_A)
        target_link_libraries(dep_${name} INTERFACE ${${name}_${lib}_A})
        continue()
      endif()
      file(GLOB shared /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/lib${lib}.so.?)
      if(NOT shared)
        message(FATAL_ERROR "portable: neither an archive nor a shared library of ${lib}")
      endif()
      list(GET shared 0 shared)
      target_link_libraries(dep_${name} INTERFACE ${shared})
      set_property(GLOBAL APPEND PROPERTY OCT_PORTABLE_SHARED ${shared})
    endforeach()
    target_include_directories(dep_${name} INTERFACE ${${name}_STATIC_INCLUDE_DIRS})
    target_compile_options(dep_${name} INTERFACE ${${name}_STATIC_CFLAGS_OTHER})
  else()
    target_link_libraries(dep_${name} INTERFACE PkgConfig::${name})
  endif()
endfunction()

# The rooms and what each may link, read from src/LAYERS so that there is one list.
file(STRINGS ${CMAKE_SOURCE_DIR}/src/LAYERS OCT_LAYERS)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/LAYERS)

# oct_room(name SOURCES a.c b.c [DEPS dep_x]): the static library oct_NAME.
function(oct_room name)
  cmake_parse_arguments(R "" "" "SOURCES;DEPS" ${ARGN})
  add_library(oct_${name} STATIC ${R_SOURCES})
  target_link_libraries(oct_${name} PRIVATE oct_flags PUBLIC ${R_DEPS} Threads::Threads m)
  foreach(line ${OCT_LAYERS})
    if(line MATCHES "^${name}: *(.*)$")
      string(REGEX MATCHALL "[a-z0-9]+" lower "${CMAKE_MATCH_1}")
      foreach(below ${lower})
        target_link_libraries(oct_${name} PUBLIC oct_${below})
      endforeach()
    endif()
  endforeach()
endfunction()

# oct_test(name SOURCES ... LIBS ... [LABELS ...] [TIMEOUT s]): a cmocka program run by ctest.
function(oct_test name)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE OCT_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data"
    OCT_SOURCE_DIR="${CMAKE_SOURCE_DIR}" OCT_BINARY_DIR="${CMAKE_BINARY_DIR}")
  target_link_libraries(${name} PRIVATE oct_flags ${T_LIBS} dep_cmocka)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${T_LABELS}"
    ENVIRONMENT "UBSAN_OPTIONS=print_stacktrace=1")
endfunction()

# oct_fuzz(name SOURCES ... LIBS ...): fuzz_NAME. With OCT_FUZZ it is a libFuzzer program; always
# there is replay_NAME, the same source with a main that feeds it every file of fuzz/corpus/NAME.
function(oct_fuzz name)
  cmake_parse_arguments(F "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(replay_${name} ${F_SOURCES} ${CMAKE_SOURCE_DIR}/fuzz/replay.c)
  target_include_directories(replay_${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(replay_${name} PRIVATE oct_flags ${F_LIBS})
  add_test(NAME replay_${name} COMMAND replay_${name} ${CMAKE_SOURCE_DIR}/fuzz/corpus/${name})
  set_tests_properties(replay_${name} PROPERTIES TIMEOUT 120 LABELS fuzz)
  if(OCT_FUZZ)
    add_executable(fuzz_${name} ${F_SOURCES})
    target_include_directories(fuzz_${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
    target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${name} PRIVATE oct_flags ${F_LIBS})
  endif()
endfunction()
