/* http.h - asks the watch of a process. */
#ifndef FMS_HTTP_H
#define FMS_HTTP_H

#include <curl/curl.h>

#include "client.h"

#define HTTP_PATIENCE 5           /* seconds for a whole answer */
#define HTTP_MOST     (32u << 20) /* bytes of an answer */

/* The process that is asked. */
struct http {
    const struct client_host *host;
    const char *address; /* as it was given */
    char *socket;        /* NULL: by TCP */
    char *base;          /* "http://127.0.0.1:9464" */
    char *credentials;   /* NULL: none */
};

/* Takes the last word for the address where it is one, or else what the options say; `words` is how many others there are. 0, or an exit
 * status after an error, which is logged; close in both cases. */
int http_open(struct http *http, const struct client_host *host, size_t *words);
void http_close(struct http *http);

struct http_answer {
    long status; /* 200 */
    char *text;  /* with a NUL behind it */
    size_t size;
};

/* 0, or an exit status after an error, which is logged; `text` is to be freed in both cases. */
int http_get(const struct http *http, const char *path, struct http_answer *answer);

/* For what is no single answer: a handle for that path; NULL: out of memory. */
CURL *http_request(const struct http *http, const char *path);
/* Whether what has come is of that type. */
bool http_is(CURL *request, const char *type);
/* What a failed request means, and what to do, for whoever logs or shows it. */
void http_why(const struct http *http, CURL *request, CURLcode code, char *text, size_t size);
/* The same of an HTTP status, and of the first line that came with it; "" where it is 200. */
void http_refusal(const struct http *http, long status, const char *body, char *text, size_t size);

#endif
