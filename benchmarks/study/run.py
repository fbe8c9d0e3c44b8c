"""Runs the study, or goes on with it: data, then the sweeps of each task, one after the other.

    python benchmarks/study/run.py OUT [--tasks words code] [--parts arms seed1]
                                       [--kept FOLDER] [--short]

All that it makes lies below OUT: ``data/``, ``files/`` (the FILE of every sweep), ``chosen/``
(what results decided), ``storage/`` (the sweeps, and MLflow's store). The same command goes on
where it stopped, also after a crash. With ``--kept``, finished sweeps and choices are kept in a
folder as small files; those that are there are not run again, so that another machine can go on.
``tables.py OUT`` makes the tables, whatever has been run by then.
``--short`` is a version for a test: the demo's model, two arms and a few steps of one task.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from chosen import best_of_searches, nearest_arms, written_once
from kept import keep, kept_sweep
from results import EXPERIMENT, TaskResults, task_results
from sweeps import (
    DRAWN,
    PARTS,
    SPACES,
    again,
    arms,
    draws,
    more,
    reseeded,
    searched,
    sweep_name,
    task_content,
)
from tasks import TASKS, TEST, TRAIN, MissingSourceError, make

from hft_ray.tracking import read_sweep, tracking_uri

STUDIED = ("words", "arithmetic", "definitions")
"""Tasks that are run unless others are asked for."""
SHORT_TASKS, SHORT_PARTS = ("arithmetic",), ("arms", "seed1")
SHORT_RECORDS = (60, 12)
"""Training and test records."""
FIRST_REPLAYED = 67
"""English texts before this one are those of the shipped suites, and are never trained on."""


def make_data(task: str, data: Path, short: bool) -> None:
    """Make what is missing of a task's data, and the general texts that are replayed."""
    if not (data / task / "made.json").exists():
        train, test = SHORT_RECORDS if short else (TRAIN, TEST)
        make(task, data, train=train, test=test)
    replayed = data / "general" / "replay.jsonl"
    if not replayed.exists():
        texts = (files("hft_ray.suites") / "english.jsonl").read_text("utf-8").splitlines(True)
        replayed.parent.mkdir(parents=True, exist_ok=True)
        replayed.write_text("".join(texts[FIRST_REPLAYED:]), encoding="utf-8")


def check_data(task: str, data: Path, kept: Path) -> None:
    """Check that a task's records are those that the kept sweeps trained on.

    Raises:
        MissingSourceError: They are not; a source has another version here.
    """
    made = json.loads((data / task / "made.json").read_text("utf-8"))
    here = {part: made[part] for part in ("train", "test")}
    if written_once(kept / "data" / f"{task}.json", lambda: here) != here:
        raise MissingSourceError(f"{task}: the records differ from those of {kept}")


def file_of(
    part: str, task: str, content: dict[str, Any], out: Path, kept: Path | None
) -> dict[str, Any] | None:
    """Return the FILE of a sweep; None where a part has nothing to do for a task."""
    uri = tracking_uri(None, out / "storage")

    def known(*parts: str) -> TaskResults:
        """Return the results of parts alone: a rule must not depend on what else has run."""
        found = task_results(uri, task, content, kept)
        missing = [part for part in parts if found is None or part not in found.sweeps]
        if missing or found is None:
            raise SystemExit(f"{task}: {part} is chosen by {', '.join(missing)}: run that first")
        return TaskResults(task, {name: found.sweeps[name] for name in parts})

    def decided(name: str, choose: Callable[[], Any]) -> Any:
        place = f"chosen/{content['name']}-{name}.json"
        folders = [out] if kept is None else [kept, out]
        path = next((f / place for f in folders if (f / place).exists()), folders[0] / place)
        made = written_once(path, choose)
        return written_once(folders[0] / place, lambda: made)

    if part == "arms":
        return arms(content)
    if part in ("seed1", "seed2"):
        return reseeded(content, part, decided("arms", lambda: nearest_arms(known("arms"))))
    if part == "more":
        return more(content)
    if part in SPACES:
        return searched(content, part)
    if part == "again":
        best = decided("searches", lambda: best_of_searches(known("arms", *SPACES), SPACES))
        return again(content, best) if best else None
    return draws(content) if task in DRAWN else None


def tune(content: dict[str, Any], out: Path) -> int:
    """Run a sweep, or what is left of it; return the command's exit code."""
    path = out / "files" / f"{content['name']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "hft_ray", "tune", str(path)]
    command += ["--storage", str(out / "storage")]
    began = time.time()
    code = subprocess.run(command, check=False).returncode
    line = {"sweep": content["name"], "code": code, "began": began, "seconds": time.time() - began}
    with (out / "commands.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return code


def is_over(name: str, out: Path) -> bool:
    """Return whether an earlier command finished a sweep."""
    path = out / "commands.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return any(each["sweep"] == name and each["code"] == 0 for each in map(json.loads, lines))


def run(
    out: Path, tasks: Sequence[str], parts: Sequence[str], short: bool, kept: Path | None
) -> int:
    """Run the parts of the tasks; return the first exit code that is not 0."""
    for task in tasks:
        make_data(task, out / "data", short)
        if kept is not None:
            check_data(task, out / "data", kept)
    # Part by part, so that all tasks have the first when time runs out.
    for part in parts:
        for task in tasks:
            content = task_content(task, out / "data", short=short)
            name = sweep_name(content, part)
            if kept is not None and kept_sweep(kept, name) is not None:
                continue
            if not is_over(name, out):
                made = file_of(part, task, content, out, kept)
                if made is None:
                    continue
                print(f"study: {name}", flush=True)
                if (code := tune(made, out)) != 0:
                    print(f"study: {name} ended with code {code}; the same command goes on")
                    return code
            if kept is not None:
                uri = tracking_uri(None, out / "storage")
                keep(read_sweep(uri, EXPERIMENT, name), kept, out)
    return 0


def main() -> int:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS)
    parser.add_argument("--parts", nargs="+", choices=PARTS)
    parser.add_argument("--kept", type=Path, metavar="FOLDER")
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    out = given.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    tasks = given.tasks or (SHORT_TASKS if given.short else STUDIED)
    parts = given.parts or (SHORT_PARTS if given.short else PARTS)
    try:
        return run(out, tasks, parts, given.short, given.kept)
    except MissingSourceError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
