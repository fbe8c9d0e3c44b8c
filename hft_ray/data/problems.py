"""Collects what is wrong with a file, so that a user sees the first few problems at once."""

from __future__ import annotations

from collections.abc import Iterable

from hft_ray.config import ConfigError, Problem

SHOWN = 10


class Problems:
    """Problems of one data set; the first ``SHOWN`` are kept, the others are counted."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._kept: list[Problem] = []
        self._more = 0

    def add(self, problems: Iterable[Problem]) -> None:
        """Note ``problems``."""
        for problem in problems:
            if len(self._kept) < SHOWN:
                self._kept.append(problem)
            else:
                self._more += 1

    def check(self) -> None:
        """Raise what was noted.

        Raises:
            ConfigError: There was a problem.
        """
        if not self._kept:
            return
        rest = [Problem(self._source, f"and {self._more} more like these")] if self._more else []
        raise ConfigError([*self._kept, *rest], source=self._source)


def placed(problem: Problem, where: str) -> Problem:
    """Return a problem of one turn as one of the record that was read at ``where``."""
    if problem.path == "model.name":
        return problem
    return Problem(where, f"{problem.path}: {problem.message}", problem.given)
