// plus - a plugin in C++17: each kind of option, a transform, and the table.
#include <fms_plugin.h>

#include <string>

namespace {

struct plus {
    const char *text, *secret;
    int64_t number, pause, size;
    bool wanted;
    int choice;
    fms_list list;
    const fms_template *text_of;
    fms_pairs pairs, templates;

    const fms_host *host;
};

const fms_option options[] = {
    FMS_OPT_STRING(plus, text, "a", "text"),
    FMS_OPT_SECRET(plus, secret, nullptr, "secret"),
    FMS_OPT_INTEGER(plus, number, "5", 1, 10, "number"),
    FMS_OPT_DURATION(plus, pause, "1s", 0, FMS_SECOND, "pause"),
    FMS_OPT_SIZE(plus, size, "1KiB", 0, 4096, "size"),
    FMS_OPT_BOOLEAN(plus, wanted, "no", "whether"),
    FMS_OPT_CHOICE(plus, choice, "one", "one|two", "choice"),
    FMS_OPT_LIST(plus, list, nullptr, "list"),
    FMS_OPT_TEMPLATE(plus, text_of, "${topic}", "text of a record"),
    FMS_OPT_PAIRS(plus, pairs, "pair.", "pairs"),
    FMS_OPT_TEMPLATE_PAIRS(plus, templates, "template.", "templates"),
    FMS_OPT_END,
};

fms_verdict transform(void *instance, const fms_record *record)
{
    const auto *self = static_cast<plus *>(instance);
    fms_bytes text = {};
    fms_record draft = *record;

    if (fms_expand(self->host, self->text_of, record, &text) != 0)
        return fms_reject(self->host, record, "%s", static_cast<const char *>(text.data));
    const std::string payload = std::string(self->text) + static_cast<const char *>(text.data);
    draft.payload = fms_text(payload.c_str());
    return fms_emit_child(self->host, record, &draft) != 0 ? FMS_AGAIN : FMS_DROP;
}

} // namespace

FMS_PLUGIN(.name = "plus", .version = "1.0.0", .summary = "Is written in C++", .options = options,
           .instance_size = sizeof(plus), .transform = transform, .host = FMS_HOST(plus, host));
