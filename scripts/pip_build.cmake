# Read by CMake right after project() (CMAKE_PROJECT_INCLUDE), for builds by pip and against the ROS 2
# wheels. colcon with an ordinary ROS 2 needs none of it. All is done when CMakeLists.txt has been read
# and all targets are known; installed files of others stay untouched.

# The targets that the wheels export name include folders of the machine that built them (its Python's
# headers, its NumPy's), and CMake refuses imported targets whose folders do not exist.
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

# Our own generated Python library would export the NumPy folder of this interpreter, which CMake
# refuses where the virtual environment lies inside the source folder.
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

# A virtual environment on top of a sourced ROS 2 is not on the library path. So the extension that
# Python loads first finds our libraries beside itself, and brings those along that ROS 2 would load
# by their bare names.
function(find_libraries_without_library_path)
  target_link_options(${PROJECT_NAME}_s__rosidl_typesupport_c PRIVATE LINKER:--no-as-needed)
  foreach(typesupport rosidl_typesupport_fastrtps_c rosidl_typesupport_introspection_c)
    if(TARGET ${PROJECT_NAME}__${typesupport})
      target_link_libraries(${PROJECT_NAME}_s__rosidl_typesupport_c
        PRIVATE ${PROJECT_NAME}__${typesupport})
    endif()
  endforeach()
endfunction()
set(CMAKE_INSTALL_RPATH "$ORIGIN" "$ORIGIN/../../..")

cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL drop_missing_include_folders)
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL keep_machine_folders_out_of_the_export)
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL find_libraries_without_library_path)
