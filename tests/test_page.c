/* test_page.c - the page as it is compiled in: whole, and with a policy that lets its script and its style through. */
#include "page.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

/* The page as text. */
static char *page_text(void)
{
    const struct page *page = page_find("/");
    char *text = malloc(page->size + 1);

    assert_non_null(text);
    memcpy(text, page->content, page->size);
    text[page->size] = '\0';
    return text;
}

static void it_is_found_at_the_root_only(void **state)
{
    const struct page *page = page_find("/");

    (void)state;
    assert_non_null(page);
    assert_string_equal(page->type, "text/html; charset=utf-8");
    assert_null(page_find(""));
    assert_null(page_find("/index.html"));
    assert_null(page_find("//"));
}

static void it_is_the_file_byte_for_byte(void **state)
{
    const struct page *page = page_find("/");
    FILE *file = fopen(PAGE_FILE, "rb");
    size_t i = 0;
    int byte;

    (void)state;
    assert_non_null(file);
    while ((byte = getc(file)) != EOF) {
        assert_true(i < page->size);
        assert_int_equal(page->content[i++], byte);
    }
    assert_int_equal(i, page->size);
    fclose(file);
}

/* "'sha256-...'" of what stands between two tags, which there are once each. */
static void hash_of(const char *text, const char *open, const char *close, char *to)
{
    const char *begin = strstr(text, open), *end = strstr(text, close);
    unsigned char hash[32];
    unsigned size = sizeof hash;

    assert_non_null(begin);
    assert_non_null(end);
    begin += strlen(open);
    assert_null(strstr(begin, open));
    assert_null(strstr(end + 1, close));
    assert_int_equal(EVP_Digest(begin, (size_t)(end - begin), hash, &size, EVP_sha256(), NULL), 1);
    to += sprintf(to, "'sha256-");
    to += EVP_EncodeBlock((unsigned char *)to, hash, (int)size);
    sprintf(to, "'");
}

static void its_policy_names_its_script_and_its_style(void **state)
{
    const char *policy = page_find("/")->policy;
    char *text = page_text(), expected[128] = "script-src ";

    (void)state;
    assert_non_null(strstr(policy, "default-src 'none'"));
    assert_null(strstr(policy, "unsafe"));
    hash_of(text, "<script>", "</script>", expected + strlen(expected));
    assert_non_null(strstr(policy, expected));
    strcpy(expected, "style-src ");
    hash_of(text, "<style>", "</style>", expected + strlen(expected));
    assert_non_null(strstr(policy, expected));
    free(text);
}

/* What a policy would refuse, and what would need a network or make markup of data. */
static void it_holds_nothing_that_reaches_out_or_makes_markup(void **state)
{
    static const char *const words[] = {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                                        "https://",  " style=",   " onclick",           " onload",        " src=",
                                        "@import",   "url(",      "new Function",       "localStorage",   "cookie"};
    char *text = page_text(), *at;

    (void)state;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        at = strstr(text, words[i]);
        if (at != NULL)
            fail_msg("the page holds \"%s\": %.60s", words[i], at);
    }
    at = text;
    while ((at = strstr(at, "http://")) != NULL) { /* the name of SVG, which nothing is fetched from */
        assert_int_equal(strncmp(at, "http://www.w3.org/2000/svg", 26), 0);
        at++;
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_found_at_the_root_only),
        cmocka_unit_test(it_is_the_file_byte_for_byte),
        cmocka_unit_test(its_policy_names_its_script_and_its_style),
        cmocka_unit_test(it_holds_nothing_that_reaches_out_or_makes_markup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
