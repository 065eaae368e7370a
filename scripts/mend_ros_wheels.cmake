# Read by CMake right after project() (CMAKE_PROJECT_INCLUDE), for builds against the ROS 2 wheels.
#
# Two things stand in the way of such a build. The targets that the wheels export name include
# folders of the machine that built them (its Python's headers, its NumPy's), and CMake refuses
# imported targets whose folders do not exist. And our own generated Python library would export
# the NumPy folder of this interpreter, which CMake refuses where the virtual environment lies inside
# the source folder. Both are mended when CMakeLists.txt has been read and all targets are known; the
# installed files stay untouched.

function(drop_missing_include_folders)
  get_directory_property(targets DIRECTORY "${CMAKE_SOURCE_DIR}" IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(existing "")
    foreach(folder IN LISTS folders)
      if(folder MATCHES "\\$<" OR EXISTS "${folder}")
        list(APPEND existing "${folder}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
  endforeach()
endfunction()

function(keep_machine_folders_out_of_the_export)
  set(target ${PROJECT_NAME}__rosidl_generator_py)
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  set(wrapped "")
  foreach(folder IN LISTS folders)
    if(IS_ABSOLUTE "${folder}")
      list(APPEND wrapped "$<BUILD_INTERFACE:${folder}>")
    else()
      list(APPEND wrapped "${folder}")
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${wrapped}")
endfunction()

cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL drop_missing_include_folders)
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL keep_machine_folders_out_of_the_export)
