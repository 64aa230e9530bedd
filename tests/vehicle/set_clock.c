/* set_clock - steps the machine's clock: set_clock SECONDS [unset], which it was when the machine started. As a daemon does that knows the time;
 * or, with `unset`, as `date` does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>

int main(int argc, char **argv)
{
    struct timex known = {
        .modes = ADJ_STATUS | ADJ_MAXERROR | ADJ_ESTERROR, .status = STA_PLL, .maxerror = 1000, .esterror = 1000};
    struct timespec time;

    if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "unset") != 0))
        return 2;
    clock_gettime(CLOCK_BOOTTIME, &time);
    time.tv_sec += (time_t)strtoll(argv[1], NULL, 10);
    if (clock_settime(CLOCK_REALTIME, &time) == 0 && (argc == 3 || adjtimex(&known) >= 0))
        return 0;
    perror(argv[0]);
    return 1;
}
