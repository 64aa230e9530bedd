# What a plugin author or an application finds after `cmake --install`: header, CMake package, pkg-config file, examples.
include(CMakePackageConfigHelpers)

install(FILES core/fms_plugin.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY pipelines DESTINATION ${CMAKE_INSTALL_DATADIR}/fmspipe FILES_MATCHING PATTERN "*.ini")

set_target_properties(fms_plugin_header PROPERTIES EXPORT_NAME plugin)
install(TARGETS fms_plugin_header EXPORT fmspipe)
install(EXPORT fmspipe NAMESPACE fmspipe:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/fmspipe FILE fmspipe-targets.cmake)
configure_package_config_file(cmake/fmspipe-config.cmake.in ${PROJECT_BINARY_DIR}/fmspipe-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/fmspipe PATH_VARS CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fmspipe-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fmspipe-config.cmake ${PROJECT_BINARY_DIR}/fmspipe-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/fmspipe)

configure_file(cmake/fmspipe.pc.in ${PROJECT_BINARY_DIR}/fmspipe.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/fmspipe.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(FILES docs/man/fmspipe.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES docs/man/fmspipe-pipeline.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
