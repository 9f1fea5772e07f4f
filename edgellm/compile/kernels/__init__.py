"""CPU kernels, written once over the vector operations of `vector` and the dot products of `dot`."""
