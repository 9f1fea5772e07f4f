"""A model's configuration and a target into kernels: graphs, kernels and their compilation, by TVM."""
