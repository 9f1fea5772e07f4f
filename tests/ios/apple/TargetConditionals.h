// The system's on Apple's platforms; the software Metal of the tests is an iPhone's.
#pragma once

#ifdef __APPLE__
#include_next <TargetConditionals.h>
#else
#define TARGET_OS_IPHONE 1
#endif
