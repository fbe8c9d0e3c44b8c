"""Which arms and configurations later sweeps repeat, by the rules of PLAN.md; written down once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from curves import Study, best_configuration
from results import LOST, TaskResults
from sweeps import ALWAYS

FURTHER = 2
"""Arms that get three seeds beside those that always do."""
LEVEL = 0.9
"""Share of full fine-tuning's gain at which arms and configurations are ranked."""
_RULE_DRAWS = 2  # ranks need no errors


def nearest_arms(results: TaskResults) -> list[str]:
    """Return the arms to be trained with further seeds.

    Those that always are, and those that forget least at the level on their curves; methods that
    do not reach it come last.

    Args:
        results: The part ``arms`` of a task.
    """
    study = Study([results], LOST, _RULE_DRAWS)
    level = study.level(results.task, LEVEL)
    trained = [arm for arm in study.arms(results.task) if arm not in ALWAYS]
    value = {arm: study.at(results.task, arm, level).value for arm in trained}
    ranked = sorted(trained, key=lambda arm: (value[arm] != value[arm], value[arm]))
    known = [arm for arm in study.arms(results.task) if arm in ALWAYS]
    return [*known, *ranked[:FURTHER]]


def best_of_searches(results: TaskResults, space: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return search -> the searched settings of its best configuration at the level.

    A search that does not reach the level is left out.

    Args:
        results: The part ``arms`` of a task, and the searches.
        space: Search -> what it searches.
    """
    study = Study([results], LOST, _RULE_DRAWS)
    level = study.level(results.task, LEVEL)
    found = {}
    for name, keys in space.items():
        best = best_configuration(study, results.task, name, level)
        if best is not None:
            found[name] = {key: best[key] for key in keys if key in best}
    return found


def written_once(path: Path, choose: Callable[[], Any]) -> Any:
    """Return what a file holds; what is chosen now, if it does not exist."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(choose(), indent=1) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))
