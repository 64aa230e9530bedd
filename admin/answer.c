/* answer.c - how answers are made; see server.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server.h"

#define NOTHING "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

struct MHD_Response *answer_with_headers(struct MHD_Response *response, const char *type, const char *policy)
{
    if (response == NULL)
        return NULL;
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "Content-Security-Policy", policy != NULL ? policy : NOTHING);
    return response;
}

const char *request_query(const struct request *request, const char *name)
{
    const char *value = NULL;
    enum MHD_Result is_there = MHD_lookup_connection_value_n(request->connection, MHD_GET_ARGUMENT_KIND, name,
                                                             strlen(name), &value, NULL);

    return is_there == MHD_YES && value == NULL ? "" : value;
}

bool request_number(const struct request *request, const char *name, uint64_t *number)
{
    const char *text = request_query(request, name);
    char *end;

    if (text == NULL)
        return true;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
}

const char *request_header(const struct request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *request_peer(const struct request *request, char text[PEER_TEXT])
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection,
                                                                   MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer;
    socklen_t size = sizeof peer;

    snprintf(text, PEER_TEXT, "somebody");
    if (info != NULL && getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
        snprintf(text, PEER_TEXT, "process %ld of user %ld", (long)peer.pid, (long)peer.uid);
    return text;
}

struct MHD_Response *answer_take(const char *type, char *take, size_t size)
{
    struct MHD_Response *response = take != NULL ? MHD_create_response_from_buffer(size, take, MHD_RESPMEM_MUST_FREE)
                                                 : NULL;

    if (response == NULL)
        free(take);
    return answer_with_headers(response, type, NULL);
}

struct MHD_Response *answer_text(struct request *request, unsigned status, const char *text)
{
    char *line;
    int size = asprintf(&line, "%s\n", text);

    request->status = status;
    return size >= 0 ? answer_take("text/plain; charset=utf-8", line, (size_t)size) : NULL;
}

void document_unref(struct document *document)
{
    if (document == NULL || --document->references > 0)
        return;
    free(document->text);
    free(document);
}

static void unref(void *document)
{
    document_unref(document);
}

struct MHD_Response *answer_document(const char *type, struct document *take)
{
    struct MHD_Response *response = NULL;

    if (take != NULL)
        response = MHD_create_response_from_buffer_with_free_callback_cls(take->size, take->text, unref, take);
    if (response == NULL)
        document_unref(take);
    return answer_with_headers(response, type, NULL);
}
