#include "fms_test.h"
