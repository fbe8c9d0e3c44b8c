"""The one error type for everything a user can get wrong before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

_MISSING: Any = object()
_LONGEST_VALUE = 80


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what was given, what is allowed.

    Attributes:
        path: Dotted path of the setting (``selection.ratio``), or of the data (``train.jsonl:3``).
        message: What is wrong and what is allowed, as one sentence.
        given: The value that was given, left out when there is none to show.
    """

    path: str
    message: str
    given: Any = _MISSING

    def __str__(self) -> str:
        if self.given is _MISSING:
            return f"{self.path}: {self.message}"
        shown = repr(self.given)
        if len(shown) > _LONGEST_VALUE:
            shown = shown[: _LONGEST_VALUE - 3] + "..."
        return f"{self.path}: {self.message} (given: {shown})"


class ConfigError(ValueError):
    """Usage, configuration or data are wrong; nothing was started (exit code 2).

    Carries every problem found, so that a user mends a file once, not once per problem.
    """

    def __init__(self, problems: Problem | Iterable[Problem], source: str | None = None) -> None:
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        self.source = source
        super().__init__(str(self))

    def __str__(self) -> str:
        count = len(self.problems)
        where = f" in {self.source}" if self.source else ""
        lines = [f"{count} problem{'s' if count != 1 else ''}{where}:"]
        lines += [f"  - {problem}" for problem in self.problems]
        return "\n".join(lines)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``name``, else ``""``."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
