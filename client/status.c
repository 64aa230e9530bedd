/* status.c - see status.h. */
#include "status.h"

#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "terminal.h"
#include "text.h"

static int failed(const struct http *http, const char *why)
{
    http->host->log(FMS_LOG_ERROR, NULL, NULL, "%s", why);
    return 1;
}

/* ----------------------------------------------------------------------------------------------------------- health */

/* Who answers anything with 200, or with 503, is no fmspipe, and not well for that: an answer ends with one of these lines. */
static bool is_verdict(const char *text, bool is_well)
{
    const char *verbose = is_well ? "check passed\n" : "check failed\n", *end = text + strlen(text);
    size_t n = strlen(verbose);

    return strcmp(text, is_well ? "ok\n" : "failed\n") == 0 ||
           ((size_t)(end - text) >= n && strcmp(end - n, verbose) == 0);
}

/* A check that failed begins with [-], one that did not with [+], as Kubernetes writes it. */
static void print_failing(char *text)
{
    char *rest = NULL, clean[1024];

    for (char *line = strtok_r(text, "\r\n", &rest); line != NULL; line = strtok_r(NULL, "\r\n", &rest)) {
        if (strncmp(line, "[-]", 3) != 0 && strcmp(line, "failed") != 0)
            continue;
        text_clean(line, strlen(line), clean, sizeof clean);
        puts(clean);
    }
}

int health_run(const struct http *http)
{
    struct http_answer answer;
    char why[512];
    int status = http_get(http, http->host->options.is_ready ? "/readyz?verbose" : "/livez?verbose", &answer);

    if (status == 0 && answer.status == 200 && is_verdict(answer.text, true)) {
        puts("ok");
    } else if (status == 0 && answer.status == 503 && is_verdict(answer.text, false)) {
        print_failing(answer.text);
        status = 1;
    } else if (status == 0 && answer.status == 200) {
        http_why(http, NULL, CURLE_WRITE_ERROR, why, sizeof why);
        status = failed(http, why);
    } else if (status == 0) {
        http_refusal(http, answer.status, answer.text, why, sizeof why);
        status = failed(http, why);
    }
    free(answer.text);
    return status;
}

/* ----------------------------------------------------------------------------------------------------------- status */

/* Within strings of JSON there are no ends of lines. */
static void print_one_line(const char *text)
{
    for (size_t n; *text != '\0'; text += n + strspn(text + n, "\r\n")) {
        n = strcspn(text, "\r\n");
        terminal_print(text, n);
    }
    putchar('\n');
}

static void print_drawing(const struct drawing *drawing, size_t columns)
{
    for (size_t i = 0; i < drawing->count; i++) {
        const char *text = drawing->lines[i].text;
        size_t most = columns > 0 ? columns : SIZE_MAX;

        printf("%.*s\n", (int)text_fit(text, &most), text);
    }
    if (drawing->is_cut)
        puts("...");
}

static int print_status(const struct http *http, const struct http_answer *answer)
{
    char why[512], whole[800];
    json_t *document = draw_parse(answer->text, answer->size, why, sizeof why);
    struct drawing drawing = {0};
    size_t columns = terminal_columns(); /* elsewhere lines are as long as they are */
    bool is_ready = json_is_true(json_object_get(document, "ready"));

    if (document == NULL) {
        snprintf(whole, sizeof whole, "%s: %s", http->address, why);
        return failed(http, whole);
    }
    if (http->host->options.is_json) {
        print_one_line(answer->text);
    } else {
        draw_status(&drawing, document, columns);
        print_drawing(&drawing, columns);
        draw_free(&drawing);
    }
    json_decref(document);
    return is_ready ? 0 : 1;
}

int status_run(const struct http *http)
{
    struct http_answer answer;
    char why[512];
    int status = http_get(http, "/status", &answer);

    if (status == 0 && answer.status == 200) {
        status = print_status(http, &answer);
    } else if (status == 0) {
        http_refusal(http, answer.status, answer.text, why, sizeof why);
        status = failed(http, why);
    }
    free(answer.text);
    return status;
}
