/* metrics_table.c - prints the table of metrics, from which docs/metrics.md and what is in deploy/ are made: see scripts/boards. */
#include "metrics.h"

int main(void)
{
    metrics_describe(stdout);
    return ferror(stdout) != 0;
}
