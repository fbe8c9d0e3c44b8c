"""Makes the study's tables and pictures, from MLflow alone, of whatever has been run.

    python benchmarks/study/tables.py OUT [--tracking-uri URI] [--tasks words code]
                                          [--kept FOLDER] [--short]

Writes ``OUT/tables/NAME.md`` and ``NAME.json`` (numbers with errors and 95 % intervals), all tables
as ``tables.md``, and a picture for each task. OUT is that of ``run.py``; with a tracking URI
nothing else of OUT is read. ``--kept benchmarks/study/results`` adds the sweeps that were kept as
files, so that the published tables can be made without running anything.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import answers
import matplotlib.pyplot as plt
import numpy as np
from answers import Cell, Row
from curves import SHARES, Study
from results import ALSO_LOST, LOST, TASK, TaskResults, runs_of, task_results
from run import SHORT_TASKS
from sweeps import task_content
from tasks import TASKS

from hft_ray.pareto.uncertainty import IntervalEstimate
from hft_ray.report.formatting import estimate_text
from hft_ray.report.matplotlib_figures import MARKERS, clean_axes
from hft_ray.report.multi_front import series_style
from hft_ray.tracking import tracking_uri

_SHOWN_LEVELS = 60


class Tables:
    """Writes tables as Markdown and JSON.

    Args:
        folder: Where to write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, title: str, rows: Sequence[Row]) -> None:
        """Write a table, unless it has no rows."""
        if not rows:
            return
        text = f"## {title}\n\n{markdown(rows)}\n"
        (self._folder / f"{name}.md").write_text(text, encoding="utf-8")
        found = [{key: _plain(cell) for key, cell in row.items()} for row in rows]
        content = json.dumps({"title": title, "rows": found}, indent=1) + "\n"
        (self._folder / f"{name}.json").write_text(content, encoding="utf-8")
        self._texts.append(text)

    def close(self) -> None:
        """Write all tables as one file."""
        text = "# Tables of the study\n\n" + "\n".join(self._texts)
        (self._folder / "tables.md").write_text(text, encoding="utf-8")


def markdown(rows: Sequence[Row]) -> str:
    """Return rows as a table, with all columns that any of them has."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(_text(row.get(key, '')) for key in columns)} |" for row in rows]
    return "\n".join(lines)


def _text(cell: Cell) -> str:
    if cell is None:
        return "not reached"
    return estimate_text(cell) if isinstance(cell, IntervalEstimate) else str(cell)


def _plain(cell: Cell) -> Any:
    if not isinstance(cell, IntervalEstimate):
        return cell
    return {"value": cell.value, "error": cell.error, "interval": list(cell.interval())}


def picture(study: Study, task: str, path: Path) -> None:
    """Draw what each arm forgets over the task's levels, full fine-tuning with its interval."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    levels = [study.level(task, share) for share in np.linspace(0.02, 1.15, _SHOWN_LEVELS)]
    scores = [float(level[0]) for level in levels]
    for index, arm in enumerate(study.arms(task)):
        style = series_style(arm, index)
        readings = [study.at(task, arm, level) for level in levels]
        values = [each.value for each in readings]
        axes.plot(scores, values, color=style.colour, linewidth=1.5, label=arm)
        if arm == answers.FULL:
            bounds = [e.interval() if (e := r.estimate) else (np.nan, np.nan) for r in readings]
            axes.fill_between(scores, *zip(*bounds, strict=True), color=style.colour, alpha=0.15)
        ends = [p for p in study.points(task) if p.arm == arm and p.variant is None]
        xs, ys = [p.values[TASK] for p in ends], [p.values[LOST] for p in ends]
        axes.scatter(xs, ys, color=style.colour, marker=MARKERS[style.symbol], s=28)
    for share in SHARES:
        axes.axvline(float(study.level(task, share)[0]), color="0.85", linewidth=0.8, zorder=0)
    axes.invert_xaxis()
    axes.set(xlabel=f"{TASK}: nats per token of held-out answers (better to the right)")
    axes.set(ylabel=f"{LOST}: nats per token", title=f"{task}: lines are averages with the base")
    clean_axes(axes)
    axes.legend(frameon=False, fontsize=8, ncol=2)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def make(results: Sequence[TaskResults], folder: Path) -> None:
    """Write every table and picture that the results allow."""
    tables = Tables(folder)
    study = Study(results, LOST)
    tables.write("runs", "What was run", [dict(row) for row in runs_of(results)])
    tables.write("learned", "What full fine-tuning learns", answers.learned(study))
    title = f"Forgotten ({LOST}) at full fine-tuning's task score"
    tables.write("full_score", title, answers.at_full_score(study))
    title = "How much of it averaging with the base gives"
    tables.write("averaging", title, answers.by_averaging(study))
    title = "Curves of averages minus those of full fine-tuning"
    tables.write("beyond", title, answers.beyond_averaging(study))
    for name in ALSO_LOST:
        if all(p.measured([name]) for each in results for p in each.points):
            found = answers.beyond_averaging(Study(results, name), relative=False)
            short = name.partition("/")[2]
            tables.write(f"beyond_{short}", f"The same for {name}", found)
    title = "Averages by depth against uniform ones, of full fine-tuning"
    tables.write("depth", title, answers.by_depth(study))
    title = "Granularity, ratio, re-selection, searches: pairs of arms"
    tables.write("contrasts", title, answers.contrasts(study))
    title = "Settings of the searched half fine-tuning"
    tables.write("settings", title, answers.searched_settings(study))
    tables.write("draws", "Draws against orders of the data", answers.draw_variance(results))
    tables.write("forecast", "KL on the task and what is forgotten", answers.forecasts(results))
    tables.write("transfer", "The best of one task on another", answers.transfer(study))
    tables.write("twins", "Models trained twice", answers.repeated_alike(results))
    for each in results:
        title = f"{each.task}: points without lines between them"
        tables.write(f"arms_{each.task}", title, answers.steps_of_arms(each))
        picture(study, each.task, folder / f"{each.task}.png")
    tables.close()


def main() -> int:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--tracking-uri")
    parser.add_argument("--tasks", nargs="+", choices=TASKS)
    parser.add_argument("--kept", type=Path, metavar="FOLDER")
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args()
    uri = tracking_uri(given.tracking_uri, (given.out / "storage").absolute())
    tasks = given.tasks or (SHORT_TASKS if given.short else list(TASKS))
    found = [
        task_results(
            uri, task, task_content(task, given.out / "data", short=given.short), given.kept
        )
        for task in tasks
    ]
    results = [each for each in found if each is not None and "full" in each.arms]
    if not results:
        print(f"no results of the study at {uri}", file=sys.stderr)
        return 1
    make(results, given.out / "tables")
    print(given.out / "tables" / "tables.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
