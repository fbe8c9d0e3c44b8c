"""The one error type for everything a user can get wrong before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

_MISSING: Any = object()
_LONGEST_VALUE = 80
_LONGEST_PATH = 200
_LONGEST_MESSAGE = 2000
_MOST_PROBLEMS = 100


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
        said = f"{_cut(self.path, _LONGEST_PATH)}: {_cut(self.message, _LONGEST_MESSAGE)}"
        if self.given is _MISSING:
            return said
        return f"{said} (given: {_cut_inside(repr(self.given), _LONGEST_VALUE)})"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _cut_inside(text: str, longest: int) -> str:
    """Shorten ``text`` in its middle: a path says most at its end."""
    half = (longest - 3) // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


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
        lines += [f"  - {problem}" for problem in self.problems[:_MOST_PROBLEMS]]
        if count > _MOST_PROBLEMS:
            lines.append(f"  and {count - _MOST_PROBLEMS} more")
        return "\n".join(lines)


def problems_of(*checks: Callable[[], object]) -> list[Problem]:
    """Make every check; return the problems of all of them together."""
    problems: list[Problem] = []
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    return problems


def check_all(*checks: Callable[[], object], source: str | None = None) -> None:
    """Make every check, and raise the problems of all of them together.

    Raises:
        ConfigError: One of the checks did.
    """
    if problems := problems_of(*checks):
        raise ConfigError(problems, source)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``name``, else ``""``."""
    if len(name) > _LONGEST_PATH:
        return ""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
