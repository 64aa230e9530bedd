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
string(REGEX REPLACE "(..)" "0x\\1," page_bytes "${page_bytes}")
file(WRITE ${PROJECT_BINARY_DIR}/admin/page_content.h.new "#define PAGE_SCRIPT \"${page_script}\"
#define PAGE_STYLE \"${page_style}\"
static const unsigned char page_content[] = {${page_bytes}};
")
configure_file(${PROJECT_BINARY_DIR}/admin/page_content.h.new ${PROJECT_BINARY_DIR}/admin/page_content.h COPYONLY)

add_library(fms_admin_page OBJECT ${CMAKE_CURRENT_LIST_DIR}/page.c)
target_include_directories(fms_admin_page PUBLIC ${CMAKE_CURRENT_LIST_DIR} PRIVATE ${PROJECT_BINARY_DIR}/admin)
target_link_libraries(fms_admin_page PRIVATE fms_flags)
set_target_properties(fms_admin_page PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
