/* Reads behind a heap block: the address sanitizer must stop it. */
#include <stdlib.h>

int main(int argc, char **argv)
{
    char *block = malloc(8);
    volatile char c = block[8 + argc - 1];

    (void)argv;
    free(block);
    return c == 1;
}
