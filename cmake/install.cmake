# What a plugin author or an application finds after `cmake --install`: header, CMake package, pkg-config file, examples.
include(CMakePackageConfigHelpers)

install(FILES core/fms_plugin.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY sdk/new-plugin DESTINATION ${CMAKE_INSTALL_DATADIR}/fmspipe)
file(COPY sdk/new-plugin DESTINATION ${PROJECT_BINARY_DIR}/${CMAKE_INSTALL_DATADIR}/fmspipe) # beside the built program
install(DIRECTORY pipelines DESTINATION ${CMAKE_INSTALL_DATADIR}/fmspipe FILES_MATCHING PATTERN "*.ini")
install(FILES plugins/can_common/fms.signals DESTINATION ${CMAKE_INSTALL_DATADIR}/fmspipe)

# What whoever lacks a part that this build leaves out is told.
set(parts "")
foreach(plugin ${plugins})
  if(NOT plugin IN_LIST built)
    string(APPEND parts "${plugin} build fmspipe with it, for -DFMS_PLUGINS has left it out\n")
  endif()
endforeach()
foreach(part ADMIN CLIENT)
  if(NOT FMS_${part})
    string(TOLOWER ${part} name)
    string(APPEND parts "fmspipe-${name} build fmspipe with -DFMS_${part}=ON\n")
  endif()
endforeach()
set(file ${PROJECT_BINARY_DIR}/${CMAKE_INSTALL_DATADIR}/fmspipe/parts)
file(WRITE ${file} "${parts}")
install(FILES ${file} DESTINATION ${CMAKE_INSTALL_DATADIR}/fmspipe)

set_target_properties(fms_plugin_header PROPERTIES EXPORT_NAME plugin)
install(TARGETS fms_plugin_header EXPORT fmspipe)
install(EXPORT fmspipe NAMESPACE fmspipe:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/fmspipe FILE fmspipe-targets.cmake)
configure_package_config_file(cmake/fmspipe-config.cmake.in ${PROJECT_BINARY_DIR}/fmspipe-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/fmspipe PATH_VARS CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fmspipe-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fmspipe-config.cmake ${PROJECT_BINARY_DIR}/fmspipe-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/fmspipe)

# Told from where they stand, so that an installation may be moved.
file(RELATIVE_PATH FMS_PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
set(package_files fmspipe.pc)
if(FMS_SDK)
  list(APPEND package_files fmspipe-test.pc)
endif()
foreach(file ${package_files})
  configure_file(cmake/${file}.in ${PROJECT_BINARY_DIR}/${file} @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${file} DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()

install(FILES docs/man/fmspipe.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES docs/man/fmspipe-pipeline.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
