/* sim_vehicle.h - a vehicle that drives: idles, accelerates, cruises, brakes, stops, refuels. */
#ifndef SIM_VEHICLE_H
#define SIM_VEHICLE_H

#include <fms_plugin.h>

/* Speeds are in micrometres a second, accelerations in micrometres a second squared, durations in microseconds, and
 * fuel in ten-millionths of a percent of the tank. */
#define PERCENT INT32_C(10000000)

struct vehicle {
    uint64_t random;
    uint64_t sequence; /* of its messages; this and `topic` are the fleet's */
    struct fms_bytes topic;
    int32_t speed;
    int32_t acceleration;
    int32_t aim;         /* the speed at the end of the leg */
    int32_t leg_left;    /* until then */
    int32_t target;      /* the speed at which to cruise */
    int32_t cruise_left; /* until something else is done */
    int32_t fuel;
    uint8_t mode;
};

/* The vehicle of that number, on the road for a while already: the same for the same seed. */
void vehicle_init(struct vehicle *v, uint64_t seed, size_t number);

/* So many microseconds more. */
void vehicle_drive(struct vehicle *v, int64_t duration);

int64_t vehicle_rpm(struct vehicle *v);

/* What the engine burns, in units of `fuel` a second. */
int64_t vehicle_burn(const struct vehicle *v);

/* Whether the driver wants to be faster, or slower. */
bool vehicle_accelerates(const struct vehicle *v);
bool vehicle_brakes(const struct vehicle *v);

#endif
