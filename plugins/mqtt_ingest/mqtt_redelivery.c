/* mqtt_redelivery.c - see mqtt_redelivery.h. */
#include "mqtt_redelivery.h"

#include <stddef.h>
#include <string.h>

static bool has(const uint8_t *identifiers, uint16_t id)
{
    return (identifiers[id / 8] >> id % 8 & 1) != 0;
}

void mqtt_redelivery_begin(struct mqtt_redelivery *self, bool session_present)
{
    self->has_begun = self->has_begun || !session_present;
    for (size_t i = 0; i < sizeof self->ever; i++)
        self->ever[i] = session_present ? self->ever[i] | self->here[i] : 0;
    memset(self->here, 0, sizeof self->here);
}

void mqtt_redelivery_take(struct mqtt_redelivery *self, uint16_t id)
{
    self->here[id / 8] |= (uint8_t)(1u << id % 8);
}

bool mqtt_redelivery_may_repeat(const struct mqtt_redelivery *self, uint16_t id, bool dup)
{
    return dup && !has(self->here, id) && (!self->has_begun || has(self->ever, id));
}
