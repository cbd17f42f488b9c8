# The manual page and the completions of shells, as those who read them see them:
#   cmake -D MOEC=... -D SOURCE=... -D SCRATCH=... -P documents.cmake
# bash is asked what it would complete; zsh, fish and mandoc check the form where
# they are installed.
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)
foreach(form man bash zsh fish)
  execute_process(COMMAND ${MOEC} help ${form} OUTPUT_FILE ${SCRATCH}/${form}
                  COMMAND_ERROR_IS_FATAL ANY)
endforeach()

# checked(PROGRAM ARGUMENT...): says nothing, if it is there.
function(checked program)
  find_program(found ${program} NO_CACHE)
  if(NOT found)
    message(STATUS "no ${program}: not tried")
    return()
  endif()
  must(${SCRATCH} ${found} ${ARGN})
  if(NOT output STREQUAL "")
    message(FATAL_ERROR "${program} says:\n${output}")
  endif()
endfunction()

find_program(MAN man)
if(MAN)
  must(${SCRATCH} sh -c
       "'${MAN}' --warnings -E UTF-8 -l -Tutf8 -Z man 2>&1 >/dev/null")
  if(NOT output STREQUAL "")
    message(FATAL_ERROR "man warns:\n${output}")
  endif()
endif()
checked(mandoc -T lint -W error man)
checked(zsh -n zsh)
checked(fish --no-execute fish)

# completes(EXPECTED WORD...): the words of a command line, the last one unfinished,
# as readline splits them. EXPECTED is a regular expression of all that comes, sorted.
find_program(BASH bash)
file(WRITE ${SCRATCH}/try.sh [[
complete() { :; }
compopt() { :; }
. ./bash
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_moec
printf '<%s>\n' "${COMPREPLY[@]}" | LC_ALL=C sort | tr -d '\n'
]])
function(completes expected)
  must(${SCRATCH} ${BASH} try.sh ${ARGN})
  if(NOT output MATCHES "^${expected}$")
    message(FATAL_ERROR "'${ARGN}' completes to ${output}, not ${expected}")
  endif()
endfunction()

if(BASH)
  must(${SCRATCH} ${BASH} -n bash)
  file(MAKE_DIRECTORY ${SCRATCH}/models)
  file(WRITE ${SCRATCH}/models/the\ model.onnx "")
  completes("<bench>" moec ben)
  completes("<--trace-rewrites><--trace=>" moec bench --tr)
  completes("<--check-every-value>" moec verify --check)
  completes("<--depfile=>" moec model.onnx --dep)
  completes("<npy><pb>" moec run --output-format =)
  completes("<npy>" moec run --output-format = n)
  completes("<2>" moec model.onnx --optimize 2)
  completes("<models/the model.onnx>" moec run models/t)
  completes("<models/the model.onnx>" moec bench --data = models/t)
endif()
