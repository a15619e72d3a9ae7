# SPDX-License-Identifier: MIT
# What `make install` copies: library, its variant for recordings, archive, command, headers, pkg-config file, CMake package, manual pages. The installed tree can be moved.

include(CMakePackageConfigHelpers)

if(TARGET seemalloc)
    set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/seemalloc)
    install(TARGETS seemalloc seemalloc_static EXPORT seemallocTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
            ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
    install(TARGETS seemalloc_trace LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} NAMELINK_SKIP) # for `seemalloc run --record` alone
    install(FILES ${gdb_script} DESTINATION ${CMAKE_INSTALL_LIBDIR})
    install(EXPORT seemallocTargets NAMESPACE seemalloc:: DESTINATION ${package_dir})
    configure_package_config_file(cmake/seemallocConfig.cmake.in ${PROJECT_BINARY_DIR}/package/seemallocConfig.cmake
                                  INSTALL_DESTINATION ${package_dir})
    write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/seemallocConfigVersion.cmake COMPATIBILITY SameMajorVersion)
    install(FILES ${PROJECT_BINARY_DIR}/package/seemallocConfig.cmake ${PROJECT_BINARY_DIR}/package/seemallocConfigVersion.cmake
            DESTINATION ${package_dir})

    file(RELATIVE_PATH prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
    configure_file(cmake/seemalloc.pc.in ${PROJECT_BINARY_DIR}/package/seemalloc.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/package/seemalloc.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
if(TARGET seemalloc_tool)
    install(TARGETS seemalloc_tool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(FILES include/seemalloc.h include/seemalloc_descriptor.h include/seemalloc_recording.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES docs/man/seemalloc.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES docs/man/seemalloc.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
