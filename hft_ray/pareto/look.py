"""Colours and symbols of what is drawn on one plane: several sweeps, or the arms of one."""

from __future__ import annotations

from dataclasses import dataclass

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#56b4e9", "#7a4419", "#555555")
"""Told apart with any colour vision, and by the symbols where there are more."""
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon")


@dataclass(frozen=True)
class Look:
    """How one sweep or arm is drawn; ``name`` is short enough for a legend."""

    name: str
    colour: str
    symbol: str


def look(name: str, index: int) -> Look:
    """Return how the sweep or arm number ``index`` is drawn."""
    return Look(name, _COLOURS[index % len(_COLOURS)], _SYMBOLS[index % len(_SYMBOLS)])
