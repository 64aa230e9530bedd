/* console_sample.c - a record's JSON, read as the mission's telemetry, and shown as a line of a table. */
#include "console_sample.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#include <jansson.h>

#include "console_text.h"

#define SAMPLE_JSON_MAX 16384 /* telemetry is small; what is larger is not worth the time of a parse */
#define VEHICLE_COLUMNS 17    /* a VIN */
#define BAR_COLUMNS     10

static bool sample_number(const json_t *object, const char *name, double low, double high, double *value)
{
    const json_t *number = json_object_get(object, name);

    *value = json_number_value(number);
    return json_is_number(number) && *value >= low && *value <= high;
}

static bool sample_vehicle(const json_t *object, struct sample *sample)
{
    const json_t *id = json_object_get(object, "vehicle_id");
    size_t size = json_string_length(id);

    if (!json_is_string(id) || size == 0)
        return false;
    sample->vehicle_size = size < sizeof sample->vehicle ? size : sizeof sample->vehicle;
    memcpy(sample->vehicle, json_string_value(id), sample->vehicle_size);
    return true;
}

void sample_read(struct fms_bytes payload, struct sample *sample)
{
    json_t *object;
    double timestamp;
    bool all;

    memset(sample, 0, sizeof *sample);
    if (payload.size < 2 || payload.size > SAMPLE_JSON_MAX)
        return;
    object = json_loadb(payload.data, payload.size, 0, NULL);
    all = sample_vehicle(object, sample);
    all = sample_number(object, "timestamp", 0, 253402300799.0 /* the year 9999 ends */, &timestamp) && all;
    all = sample_number(object, "speed", -9999, 9999, &sample->speed) && all;
    all = sample_number(object, "rpm", -99999, 99999, &sample->rpm) && all;
    all = sample_number(object, "fuel_level", -999, 999, &sample->fuel) && all;
    sample->is_telemetry = all;
    sample->timestamp = all ? (int64_t)timestamp : 0;
    sample->sent_ns = json_integer_value(json_object_get(object, "sent_ns"));
    json_decref(object);
}

static size_t put(char *to, const char *text)
{
    size_t n = strlen(text);

    memcpy(to, text, n);
    return n;
}

static const char *colour(const struct sample_style *style, const char *code)
{
    return style->colour ? code : "";
}

#define PLAIN  "\033[0m"
#define BOLD   "\033[1m"
#define DIM    "\033[2m"
#define RED    "\033[31m"
#define GREEN  "\033[32m"
#define YELLOW "\033[33m"

size_t sample_head(const struct sample_style *style, char *to)
{
    return (size_t)snprintf(to, SAMPLE_LINE_MAX, "%s%-8s  %-*s  %12s  %9s  %s%s\n", colour(style, DIM), "TIME",
                            VEHICLE_COLUMNS, "VEHICLE", "SPEED", "RPM", "FUEL", colour(style, PLAIN));
}

/* Eighths of a column where the terminal has the characters. */
static size_t sample_bar(double percent, bool utf8, char *to)
{
    static const char *const eighths[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
    long filled = lround(fmin(fmax(percent, 0), 100) / 100 * BAR_COLUMNS * 8);
    size_t used = 0;

    for (long column = 0; column < BAR_COLUMNS; column++, filled -= 8) {
        if (utf8)
            used += put(to + used, eighths[filled < 0 ? 0 : filled > 8 ? 8 : filled]);
        else
            used += put(to + used, filled >= 4 ? "#" : ".");
    }
    return used;
}

static size_t sample_time(int64_t timestamp, char *to)
{
    time_t seconds = (time_t)timestamp;
    struct tm tm;

    if (timestamp == SAMPLE_NO_TIME || localtime_r(&seconds, &tm) == NULL)
        return put(to, "--:--:--");
    return strftime(to, 16, "%H:%M:%S", &tm);
}

/* The first two columns. */
static size_t sample_begin(struct fms_bytes vehicle, int64_t timestamp, const struct sample_style *style, char *to)
{
    size_t n = put(to, colour(style, DIM));

    n += sample_time(timestamp, to + n);
    n += put(to + n, colour(style, PLAIN));
    n += put(to + n, "  ");
    n += put(to + n, colour(style, BOLD));
    n += text_column(vehicle, VEHICLE_COLUMNS, !style->utf8, to + n);
    n += put(to + n, colour(style, PLAIN));
    return n;
}

size_t sample_tombstone(struct fms_bytes key, int64_t timestamp, const struct sample_style *style, char *to)
{
    size_t n = sample_begin(key, timestamp, style, to);

    n += put(to + n, "  ");
    n += put(to + n, colour(style, DIM));
    n += put(to + n, "no payload (tombstone)");
    n += put(to + n, colour(style, PLAIN));
    return n + put(to + n, "\n");
}

size_t sample_line(const struct sample *sample, const struct sample_style *style, char *to)
{
    const char *level = sample->fuel < 10 ? RED : sample->fuel < 25 ? YELLOW : GREEN;
    struct fms_bytes vehicle = fms_bytes_of(sample->vehicle, sample->vehicle_size);
    size_t n = sample_begin(vehicle, sample->timestamp, style, to);

    n += (size_t)sprintf(to + n, "  %7.2f km/h  %5.0f rpm  ", sample->speed, sample->rpm);
    n += put(to + n, colour(style, level));
    n += sample_bar(sample->fuel, style->utf8, to + n);
    n += put(to + n, colour(style, PLAIN));
    n += (size_t)sprintf(to + n, " %6.2f %%\n", sample->fuel);
    return n;
}
