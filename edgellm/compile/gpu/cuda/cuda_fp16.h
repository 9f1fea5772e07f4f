// Stands in for NVIDIA's header of this name: device.h has what kernels use of it.
#pragma once
