"""The TVM backend for CPUs: our own kernels, run step by step."""

from edgellm.backends.tvm.backend import backend

__all__ = ["backend"]
