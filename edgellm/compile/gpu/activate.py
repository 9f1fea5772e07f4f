"""Activation functions of one float32 number."""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from edgellm.compile.gpu.kernel import Value, bind


def activate(kind: str, x: Value) -> Value:
    """silu(x), gelu(x), or gelu by its tanh form."""
    one = T.float32(1)
    if kind == "silu":
        return bind(x / (one + T.exp(-x)))
    if kind == "gelu_tanh":
        # 0.5 x (1 + tanh(u)) = x / (1 + e**(-2u)), u = sqrt(2/pi) (x + 0.044715 x**3)
        u = bind(T.float32(1.5957691216057308) * (x + T.float32(0.044715) * x * x * x))
        return bind(x / (one + T.exp(-u)))
    if kind == "gelu":
        return bind(T.float32(0.5) * x * (one + erf(bind(x * T.float32(0.7071067811865476)))))
    raise ValueError(kind)


def erf(x: Value) -> Value:
    """By Abramowitz and Stegun 7.1.26, |error| < 1.5e-7; shading languages have no erf."""
    magnitude = bind(T.abs(x))
    t = bind(T.float32(1) / (T.float32(1) + T.float32(0.3275911) * magnitude))
    series = T.float32(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = bind(series * t + T.float32(factor))
    value = bind(T.float32(1) - series * t * T.exp(-magnitude * magnitude))
    return bind(T.Select(x < T.float32(0), -value, value))
