/* floor_generator.c - the least that a generator of telemetry can be: COUNT messages of VEHICLES vehicles in turns, made in a
 * buffer and forgotten.
 *
 *   floor_generator VEHICLES COUNT */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct vehicle {
    double speed, fuel_level;
};

static double next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) / (double)(UINT64_C(1) << 53);
}

static void drive(struct vehicle *vehicle, uint64_t *state)
{
    vehicle->speed = fmin(120, fmax(0, vehicle->speed + 4 * next_random(state) - 2));
    vehicle->fuel_level = vehicle->fuel_level > 5 ? vehicle->fuel_level - 0.001 * next_random(state) : 100;
}

static size_t report(const struct vehicle *vehicle, unsigned id, long long now, char *to, size_t room)
{
    return (size_t)snprintf(
        to, room, "{\"vehicle_id\":\"raspi-%03u\",\"timestamp\":%lld,\"speed\":%.2f,\"rpm\":%d,\"fuel_level\":%.2f}",
        id, now, vehicle->speed, (int)(700 + vehicle->speed * 18), vehicle->fuel_level);
}

int main(int argc, char **argv)
{
    unsigned vehicles = argc == 3 ? (unsigned)atoi(argv[1]) : 0;
    unsigned long long count = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    struct vehicle *fleet = calloc(vehicles, sizeof *fleet);
    uint64_t state = 1;
    size_t total = 0;
    char text[256];

    if (vehicles == 0 || count == 0 || fleet == NULL) {
        fprintf(stderr, "usage: floor_generator VEHICLES COUNT\n");
        return 2;
    }
    for (unsigned long long i = 0; i < count; i++) {
        struct vehicle *vehicle = &fleet[i % vehicles];

        drive(vehicle, &state);
        total += report(vehicle, (unsigned)(i % vehicles) + 1, (long long)time(NULL), text, sizeof text);
    }
    printf("%llu messages, %zu bytes\n", count, total);
    free(fleet);
    return 0;
}
