"""Typed, bounded access to the keys of a config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgellm.errors import CheckpointError


class Fields:
    """The keys of one JSON object, with a family's defaults behind them.

    `where` stands before a key in messages ("config.json: " or "config.json: rope_scaling.").
    A key that is null counts as absent. Every getter raises CheckpointError naming the key.
    """

    def __init__(
        self, raw: Mapping[str, Any], defaults: Mapping[str, Any], where: str = "config.json: "
    ) -> None:
        self.raw = raw
        self.defaults = defaults
        self.where = where

    def get(self, key: str) -> Any:
        """The value of `key` or its default; None if there is neither."""
        value = self.raw.get(key)
        return self.defaults.get(key) if value is None else value

    def integer(self, key: str, low: int, high: int) -> int:
        """The whole number at `key`, from `low` to `high`."""
        value = self._required(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise CheckpointError(f"{self.where}{key} is {_short(value)}, not a whole number")
        if not low <= value <= high:
            raise CheckpointError(f"{self.where}{key} is {_short(value)}; allowed is {low:,} to {high:,}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        """The finite number at `key`, from `low` to `high`."""
        value = self._required(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"{self.where}{key} is {_short(value)}, not a number")
        if not low <= value <= high or not math.isfinite(value):
            raise CheckpointError(f"{self.where}{key} is {_short(value)}; allowed is {low:g} to {high:g}")
        return float(value)

    def boolean(self, key: str) -> bool:
        """True or false at `key`."""
        value = self._required(key)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self.where}{key} is {_short(value)}, not true or false")
        return value

    def text(self, key: str) -> str:
        """The string at `key`."""
        value = self._required(key)
        if not isinstance(value, str):
            raise CheckpointError(f"{self.where}{key} is {_short(value)}, not a text")
        return value

    def numbers(self, key: str, length: int, low: float, high: float) -> tuple[float, ...]:
        """The list of exactly `length` finite numbers at `key`, each from `low` to `high`."""
        value = self._required(key)
        if not isinstance(value, list) or len(value) != length:
            size = f"a list of {len(value)}" if isinstance(value, list) else _short(value)
            raise CheckpointError(f"{self.where}{key} is {size}, not a list of {length} numbers")
        items = Fields({str(i): item for i, item in enumerate(value)}, {}, f"{self.where}{key}.")
        return tuple(items.number(str(i), low, high) for i in range(length))

    def child(self, key: str) -> Fields:
        """The object at `key`, without defaults; empty if absent."""
        value = self.raw.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.where}{key} is {_short(value)}, not an object")
        return Fields(value, {}, f"{self.where}{key}.")

    def _required(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise CheckpointError(f"{self.where}{key} is missing")
        return value


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = "a number of thousands of digits"
    return text if len(text) <= 40 else text[:40] + "…"
