# moec_add_model(TARGET <name> MODEL <file>
#                [OUTPUT <file>] [ENTRY <function>]
#                [OPTIONS <option>...] [DEPENDS <file>...])
#
# Compiles a model into a shared library when it, a file with its weights, or moec
# has changed. <name> becomes an imported library:
#
#   target_link_libraries(app PRIVATE <name>)   links it; moec_model() is there
#   $<TARGET_FILE:<name>>                       its path, for dlopen();
#                                               add_dependencies(app <name>)
#   get_target_property(path <name> MOEC_MODEL) the same when configuring
#
# OUTPUT   the library; lib<name>.so in the current binary directory
# ENTRY    the exported function instead of moec_model: programs that link several
#          models need one name for each
# OPTIONS  of moec, for example -O3 --dim batch=1
# DEPENDS  what else it is made from, for example a file for --config
function(moec_add_model)
  cmake_parse_arguments(PARSE_ARGV 0 ARG "" "TARGET;MODEL;OUTPUT;ENTRY"
                        "OPTIONS;DEPENDS")
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR
            "moec_add_model does not know '${ARG_UNPARSED_ARGUMENTS}'")
  elseif(NOT ARG_TARGET OR NOT ARG_MODEL)
    message(FATAL_ERROR "moec_add_model needs TARGET and MODEL")
  endif()
  # Paths in the rule that moec writes are absolute, as those here.
  cmake_policy(SET CMP0116 NEW)
  get_filename_component(model "${ARG_MODEL}" ABSOLUTE
                         BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
  if(NOT ARG_OUTPUT)
    set(ARG_OUTPUT "lib${ARG_TARGET}.so")
  endif()
  get_filename_component(output "${ARG_OUTPUT}" ABSOLUTE
                         BASE_DIR "${CMAKE_CURRENT_BINARY_DIR}")
  get_filename_component(soname "${output}" NAME)
  set(entry)
  if(ARG_ENTRY)
    set(entry --entry "${ARG_ENTRY}")
  endif()
  add_custom_command(
    OUTPUT "${output}"
    COMMAND moec::moec "${model}" -o "${output}" --soname "${soname}"
            --depfile "${output}.d" --quiet ${entry} ${ARG_OPTIONS}
    DEPENDS "${model}" "$<TARGET_FILE:moec::moec>" ${ARG_DEPENDS}
    DEPFILE "${output}.d"
    COMMENT "Compiling model ${ARG_TARGET}"
    VERBATIM)
  add_custom_target(${ARG_TARGET}_compile ALL DEPENDS "${output}")
  add_library(${ARG_TARGET} SHARED IMPORTED GLOBAL)
  set_target_properties(${ARG_TARGET} PROPERTIES
    IMPORTED_LOCATION "${output}" IMPORTED_SONAME "${soname}"
    MOEC_MODEL "${output}" INTERFACE_LINK_LIBRARIES moec::headers)
  add_dependencies(${ARG_TARGET} ${ARG_TARGET}_compile)
endfunction()
