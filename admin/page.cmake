# The page, as C: the library fms_admin_page, for what serves it. A change of the page configures anew.
include_guard(GLOBAL)

# What stands between <tag> and </tag>, as a Content-Security-Policy names it: base64, of which three digits make two.
function(page_hash page tag to)
  set(letters ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
  string(LENGTH "<${tag}>" skipped)
  string(FIND "${page}" "<${tag}>" begin)
  string(FIND "${page}" "</${tag}>" end)
  math(EXPR begin "${begin} + ${skipped}")
  math(EXPR size "${end} - ${begin}")
  string(SUBSTRING "${page}" ${begin} ${size} part)
  string(SHA256 digits "${part}")
  string(REGEX MATCHALL "..." groups "${digits}00")
  set(text "")
  foreach(group ${groups})
    math(EXPR high "0x${group} >> 6")
    math(EXPR low "0x${group} & 63")
    string(SUBSTRING ${letters} ${high} 1 first)
    string(SUBSTRING ${letters} ${low} 1 second)
    string(APPEND text ${first}${second})
  endforeach()
  string(SUBSTRING ${text} 0 43 text) # 32 bytes; the last digit stands for none
  set(${to} "sha256-${text}=" PARENT_SCOPE)
endfunction()

set(page_file ${CMAKE_CURRENT_LIST_DIR}/page.html)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${page_file})
file(READ ${page_file} page)
page_hash("${page}" script page_script)
page_hash("${page}" style page_style)
file(READ ${page_file} page_bytes HEX)
file(SIZE ${page_file} page_size)
string(REGEX REPLACE "(..)" "0x\\1," page_bytes "${page_bytes}")
set(page_content ${PROJECT_BINARY_DIR}/admin/page_content.c)
file(WRITE ${page_content}.new "const unsigned char page_content[] = {${page_bytes}};\n")
configure_file(${page_content}.new ${page_content} COPYONLY) # a page that has not changed compiles nothing

add_library(fms_admin_page OBJECT ${CMAKE_CURRENT_LIST_DIR}/page.c ${page_content})
target_include_directories(fms_admin_page PUBLIC ${CMAKE_CURRENT_LIST_DIR})
target_compile_definitions(fms_admin_page PRIVATE PAGE_SCRIPT="${page_script}" PAGE_STYLE="${page_style}"
  PAGE_SIZE=${page_size})
target_link_libraries(fms_admin_page PRIVATE fms_flags)
set_target_properties(fms_admin_page PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
