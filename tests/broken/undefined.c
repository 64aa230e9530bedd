/* Overflows a signed integer: the undefined behaviour sanitizer must stop it. */
#include <limits.h>

int main(int argc, char **argv)
{
    volatile int n = INT_MAX;

    (void)argv;
    n = n + argc;
    return n == 0;
}
