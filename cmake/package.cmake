# cmake/package.cmake - man pages, completion, the unit, and the Debian package: packaging/README.md.

# Made by the program itself, so that they say what its tables of flags say.
set(pages ${CMAKE_BINARY_DIR}/pages)
add_custom_command(OUTPUT ${pages}/octet.bash
  COMMAND sh ${CMAKE_SOURCE_DIR}/packaging/pages.sh $<TARGET_FILE:octet> ${pages}
  DEPENDS octet ${CMAKE_SOURCE_DIR}/packaging/pages.sh VERBATIM)
if(NOT OCT_SANITIZE AND NOT OCT_FUZZ)
  add_custom_target(pages ALL DEPENDS ${pages}/octet.bash)
  install(DIRECTORY ${pages}/man1 DESTINATION share/man)
  install(FILES ${pages}/octet.bash DESTINATION share/bash-completion/completions RENAME octet)
endif()
install(FILES packaging/octet.service DESTINATION lib/systemd/system)
install(FILES packaging/serve.yaml README.md CHANGELOG.md DESTINATION share/doc/octet)
install(DIRECTORY docs/monitoring DESTINATION share/doc/octet)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME octet)
set(CPACK_PACKAGE_CONTACT "octet <octet@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "server of INT8-quantised language models")
set(CPACK_PACKAGE_DESCRIPTION "octet serves language models whose weights, activations and cache are INT8 over the
OpenAI API. It reads published checkpoints, quantises float ones, and measures.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# Opened when they are needed: benchmarks of servers, figures.
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "libcurl4")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "gnuplot-nox, bash-completion")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# liboctet.so is in this package; its own program does not need it.
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
include(CPack)
