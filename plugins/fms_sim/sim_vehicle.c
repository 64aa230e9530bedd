/* sim_vehicle.c - see sim_vehicle.h.
 *
 * The driving model is integers only: a run with the same seed is the same on every machine. A drive is a chain of
 * legs, on each of which the speed goes in a straight line from where it is to an aim; a sample that spans several legs
 * walks through them all. */
#include "sim_vehicle.h"

#include <stdlib.h>

#define METRE         INT32_C(1000000)
#define KMH(x)        ((int32_t)((x)*INT64_C(1000000) * 10 / 36))
#define SIM_TOP_SPEED KMH(120)
#define SIM_FUEL_LOW  (15 * PERCENT)
#define SIM_FUEL_FULL (98 * PERCENT)
#define SIM_PUMP      (PERCENT * 4 / 5) /* a second: some 30 litres a minute */
#define SECOND        INT32_C(1000000)

enum mode { MODE_IDLE, MODE_REFUEL, MODE_ACCELERATE, MODE_CRUISE, MODE_BRAKE };

/* splitmix64 */
static uint64_t vehicle_random(struct vehicle *v)
{
    uint64_t z = v->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int32_t vehicle_between(struct vehicle *v, int32_t low, int32_t high)
{
    uint64_t span = (uint64_t)((int64_t)high - low + 1);

    return (int32_t)(low + (int64_t)(((vehicle_random(v) >> 32) * span) >> 32));
}

static void vehicle_leg(struct vehicle *v, enum mode mode, int32_t aim, int64_t duration)
{
    v->mode = (uint8_t)mode;
    v->aim = aim;
    v->leg_left = (int32_t)(duration > 0 ? duration : 1);
    v->acceleration = (int32_t)((int64_t)(aim - v->speed) * SECOND / v->leg_left);
}

/* From the present speed to `aim` at this acceleration. */
static void vehicle_change(struct vehicle *v, enum mode mode, int32_t aim, int32_t acceleration)
{
    vehicle_leg(v, mode, aim, (int64_t)abs(aim - v->speed) * SECOND / acceleration);
}

/* One gear range after the other, each more slowly than the one before. */
static void vehicle_accelerate(struct vehicle *v)
{
    if (v->speed < KMH(30))
        vehicle_change(v, MODE_ACCELERATE, v->target < KMH(30) ? v->target : KMH(30),
                       vehicle_between(v, METRE, METRE * 3 / 2));
    else if (v->speed < KMH(70))
        vehicle_change(v, MODE_ACCELERATE, v->target < KMH(70) ? v->target : KMH(70),
                       vehicle_between(v, METRE * 6 / 10, METRE));
    else
        vehicle_change(v, MODE_ACCELERATE, v->target, vehicle_between(v, METRE * 3 / 10, METRE * 6 / 10));
}

/* A few seconds of a foot that is not quite still. */
static void vehicle_cruise(struct vehicle *v)
{
    int32_t aim = v->target + vehicle_between(v, -KMH(2), KMH(2));
    int32_t duration = vehicle_between(v, 3 * SECOND, 8 * SECOND);

    vehicle_leg(v, MODE_CRUISE, aim < SIM_TOP_SPEED ? aim : SIM_TOP_SPEED, duration);
    v->cruise_left -= duration;
}

static void vehicle_begin_cruise(struct vehicle *v)
{
    v->cruise_left = vehicle_between(v, 15 * SECOND, 120 * SECOND);
    vehicle_cruise(v);
}

/* Another road: town, main road, motorway. */
static void vehicle_drive_on(struct vehicle *v)
{
    static const int32_t limits[] = {KMH(30), KMH(50), KMH(50), KMH(50), KMH(70), KMH(90), KMH(118)};

    v->target = limits[vehicle_between(v, 0, (int32_t)(sizeof limits / sizeof *limits) - 1)];
    v->target -= vehicle_between(v, 0, KMH(6));
    if (v->target > v->speed)
        vehicle_accelerate(v);
    else
        vehicle_change(v, MODE_BRAKE, v->target, vehicle_between(v, METRE / 2, METRE * 3 / 2));
}

static void vehicle_stop_ahead(struct vehicle *v)
{
    v->target = 0;
    vehicle_change(v, MODE_BRAKE, 0, vehicle_between(v, METRE, 3 * METRE));
}

/* Traffic lights, or now and then a delivery. */
static void vehicle_idle(struct vehicle *v)
{
    if (vehicle_between(v, 0, 11) == 0)
        vehicle_leg(v, MODE_IDLE, 0, vehicle_between(v, 45 * SECOND, 150 * SECOND));
    else
        vehicle_leg(v, MODE_IDLE, 0, vehicle_between(v, 5 * SECOND, 30 * SECOND));
}

static void vehicle_next_leg(struct vehicle *v)
{
    switch ((enum mode)v->mode) {
    case MODE_IDLE:
        if (v->fuel < SIM_FUEL_LOW)
            vehicle_leg(v, MODE_REFUEL, 0, (int64_t)(SIM_FUEL_FULL - v->fuel) * SECOND / SIM_PUMP);
        else
            vehicle_drive_on(v);
        break;
    case MODE_REFUEL:
        vehicle_drive_on(v);
        break;
    case MODE_ACCELERATE:
        if (v->speed < v->target)
            vehicle_accelerate(v);
        else
            vehicle_begin_cruise(v);
        break;
    case MODE_CRUISE:
        if (v->cruise_left > 0)
            vehicle_cruise(v);
        else if (v->fuel < SIM_FUEL_LOW || vehicle_between(v, 0, 1) == 0)
            vehicle_stop_ahead(v);
        else
            vehicle_drive_on(v);
        break;
    case MODE_BRAKE:
        if (v->target > 0)
            vehicle_begin_cruise(v);
        else
            vehicle_idle(v);
        break;
    }
}

/* What the engine burns, of the tank in a second: a van of two tonnes with 60 litres. Rolling and air resistance and
 * acceleration make its power; idling costs 0.8 litres an hour, and each kilowatt 0.28 more. */
int64_t vehicle_burn(const struct vehicle *v)
{
    int64_t mm = v->speed / 1000;
    int64_t watts = mm * 3 / 10 + mm * mm / 1000 * mm * 7 / 10000000 + (int64_t)v->acceleration * mm / 500000;
    int64_t millilitres_an_hour = 800 + (watts > 0 ? watts * 28 / 100 : 0);

    return millilitres_an_hour * 463 / 100;
}

void vehicle_drive(struct vehicle *v, int64_t duration)
{
    while (duration > 0) {
        int64_t step = duration < v->leg_left ? duration : v->leg_left;
        int64_t flow = v->mode == MODE_REFUEL ? SIM_PUMP : -vehicle_burn(v);

        duration -= step;
        v->leg_left -= (int32_t)step;
        v->fuel += (int32_t)(flow * step / SECOND);
        if (v->leg_left > 0) {
            v->speed += (int32_t)(v->acceleration * step / SECOND);
        } else {
            v->speed = v->aim;
            vehicle_next_leg(v);
        }
    }
}

/* The highest gear that keeps the engine above what the driving asks for. */
int64_t vehicle_rpm(struct vehicle *v)
{
    static const int32_t per_kmh[] = {21, 26, 33, 44, 65, 110}; /* sixth gear first */
    int64_t kmh100 = (int64_t)v->speed * 9 / 25000;
    int64_t least = v->mode == MODE_ACCELERATE ? 1600 : 1100;
    int64_t rpm = 0;

    for (size_t gear = 0; gear < sizeof per_kmh / sizeof *per_kmh && rpm < least; gear++)
        rpm = kmh100 * per_kmh[gear] / 100;
    if (rpm < 750)
        rpm = 750; /* the clutch slips, or it stands */
    rpm += (int64_t)(vehicle_random(v) & 31) - 16;
    return rpm < 3000 ? rpm : 3000;
}

/* A fleet that has been on the road for a while: some stand, the others drive. */
void vehicle_init(struct vehicle *v, uint64_t seed, size_t number)
{
    v->random = seed;
    v->random = vehicle_random(v) + number;
    v->fuel = vehicle_between(v, 30 * PERCENT, SIM_FUEL_FULL);
    if (vehicle_between(v, 0, 2) == 0) {
        vehicle_idle(v);
        return;
    }
    v->target = vehicle_between(v, KMH(35), KMH(95));
    v->speed = v->target;
    vehicle_begin_cruise(v);
}

bool vehicle_accelerates(const struct vehicle *v)
{
    return v->mode == MODE_ACCELERATE;
}

bool vehicle_brakes(const struct vehicle *v)
{
    return v->mode == MODE_BRAKE;
}
