// As Apple's documentation declares it (iOS 13 and later).
#pragma once

#include <stddef.h>

size_t os_proc_available_memory(void);
