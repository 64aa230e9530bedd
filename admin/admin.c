/* admin.c - what the process gets of this shared object; see admin.h of the core. */
#include "admin.h"

#include "server.h"

static int start(const struct admin_host *host, const struct admin_options *options, struct admin **admin)
{
    return server_start(host, options, (struct server **)admin);
}

static void stop(struct admin *admin)
{
    server_stop((struct server *)admin);
}

__attribute__((visibility("default"))) const struct admin_table *fmspipe_admin(void);
const struct admin_table *fmspipe_admin(void)
{
    static const struct admin_table table = {FMS_VERSION, start, stop};

    return &table;
}
