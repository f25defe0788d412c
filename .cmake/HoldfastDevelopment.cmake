# What the project's own targets share; users of the library see none of it.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_EXTENSIONS OFF)

add_library(holdfast_development INTERFACE)
target_link_libraries(holdfast_development INTERFACE holdfast::holdfast)
target_compile_options(holdfast_development INTERFACE -Wall -Wextra -Wconversion -Wshadow)
# A warning is an error for the compilers that CI runs; a newer one may find more.
string(REGEX MATCH "^[0-9]+" compiler_major "${CMAKE_CXX_COMPILER_VERSION}")
if("${CMAKE_CXX_COMPILER_ID} ${compiler_major}" MATCHES "^(GNU 12|GNU 14|Clang 19)$")
  set(werror_default ON)
else()
  set(werror_default OFF)
endif()
option(HOLDFAST_WERROR "Warnings are errors in the project's own targets" ${werror_default})
if(HOLDFAST_WERROR)
  target_compile_options(holdfast_development INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # What g++ takes for uninitialized depends on how much it has inlined: up to version 12 the members of a moved Asio
  # socket, later those of a std::variant. Newer versions may say so, without an end to the build.
  if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(holdfast_development INTERFACE -Wno-maybe-uninitialized)
  else()
    target_compile_options(holdfast_development INTERFACE -Wno-error=maybe-uninitialized)
  endif()
endif()
target_compile_definitions(holdfast_development INTERFACE ASIO_NO_DEPRECATED BOOST_ASIO_NO_DEPRECATED)
target_include_directories(holdfast_development INTERFACE ${PROJECT_SOURCE_DIR}/examples)

include(FetchContent)

# holdfast_find(PACKAGE TARGET GIT_URL GIT_TAG DEBIAN_PACKAGE): an installed package, else a download.
function(holdfast_find package target url tag debian_package)
  if(TARGET ${target})
    return()
  endif()
  find_package(${package} QUIET GLOBAL)
  if(TARGET ${target})
    return()
  endif()
  message(STATUS "${package} is not installed (Debian: ${debian_package}): downloading ${tag}")
  FetchContent_Declare(${package} GIT_REPOSITORY ${url} GIT_TAG ${tag} GIT_SHALLOW ON)
  FetchContent_MakeAvailable(${package})
endfunction()

holdfast_find(simdjson simdjson::simdjson https://github.com/simdjson/simdjson.git v3.12.3 libsimdjson-dev)

find_package(Protobuf QUIET MODULE) # the real peer of tests and benchmarks (Debian: protobuf-compiler libprotobuf-dev)

# holdfast_protobuf(TARGET FILE): a library of the classes that protoc makes of FILE.proto. Only where Protobuf was found.
function(holdfast_protobuf target file)
  get_filename_component(name ${file} NAME_WE)
  get_filename_component(from ${file} DIRECTORY)
  set(made ${CMAKE_CURRENT_BINARY_DIR}/${target})
  file(MAKE_DIRECTORY ${made})
  add_custom_command(OUTPUT ${made}/${name}.pb.cc ${made}/${name}.pb.h
    COMMAND protobuf::protoc --cpp_out=${made} --proto_path=${CMAKE_CURRENT_SOURCE_DIR}/${from}
      ${CMAKE_CURRENT_SOURCE_DIR}/${file}
    DEPENDS ${file} VERBATIM)
  add_library(${target} STATIC ${made}/${name}.pb.cc)
  target_include_directories(${target} SYSTEM PUBLIC ${made})
  target_link_libraries(${target} PUBLIC protobuf::libprotobuf)
endfunction()
