"""The study's answers as rows: names of columns -> texts, numbers, or numbers with errors.

A difference says something where its 95 % interval does not hold zero; see PLAN.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from statistics import NormalDist, fmean, stdev

import numpy as np
from curves import SHARES, Reading, Study, curves_of, mean_of, verdict
from results import LOST, TASK, TaskResults
from scipy.stats import f as f_distribution
from scipy.stats import spearmanr
from scipy.stats import t as t_distribution
from sweeps import AGAIN, DEPTH, DRAW, ORDER, SPACES

from hft_ray.analysis.forecast_correlation import forecast_correlation, rank_interval
from hft_ray.analysis.influence import influences
from hft_ray.analysis.settings import Setting
from hft_ray.orchestration.fronts import searched
from hft_ray.pareto import Point, arm_table
from hft_ray.pareto.uncertainty import IntervalEstimate
from hft_ray.report.formatting import with_interval
from hft_ray.report.rows import arm_rows

Cell = str | int | float | IntervalEstimate | None
Row = dict[str, Cell]
FULL = "full"
DECIDES = 0.9
"""Level at which it is said who forgets less. At 1 an arm that learns as much as full fine-tuning
reaches the level in half of the draws."""
LEARNED = 0.95
"""A task is learned where full fine-tuning ends below this share of the base's cross-entropy."""
CLOSE = 0.1
"""Configurations are as good as the best one if they forget no more than this share of what full
fine-tuning's best end forgets beyond it."""
CONTRASTS = {
    "category, before layer": ("hft", "hft_layer"),
    "category, before model": ("hft", "hft_model"),
    "layer, before model": ("hft_layer", "hft_model"),
    "ratio 0.25 against 0.5": ("hft_quarter", "hft"),
    "drawn again every 24 steps, against once": ("hft_redrawn", "hft"),
    "HFT searched against as published": (f"{AGAIN}search-hft", "hft"),
    "everything searched against full": (f"{AGAIN}search-all", "full"),
    "everything searched against HFT searched": (f"{AGAIN}search-all", f"{AGAIN}search-hft"),
}
"""What is compared -> two arms, the first minus the second."""


def over(tasks: Sequence[object]) -> str:
    """Return the name of a row over several tasks."""
    return f"{len(tasks)} tasks"


def full_end(study: Study, task: str) -> Reading:
    """Return what the trained full fine-tuning forgets that is best at the task."""
    return study.end(task, study.best_full(task))


def learned(study: Study) -> list[Row]:
    """Return what full fine-tuning gains of each task, with and without averages."""
    rows: list[Row] = []
    for each in study.results:
        task = each.task
        base = float(study.score(task, -1)[0])
        row: Row = {"task": task, "base": round(base, 3)}
        for name, averages in (("best trained", False), ("best of its averages", True)):
            score = float(study.score(task, study.best_full(task, averages=averages))[0])
            row |= {name: round(score, 3), f"{name}, gained": f"{1 - score / base:.1%}"}
        rows.append(row | {"learned": "yes" if score < LEARNED * base else "no"})
    return rows


def at_full_score(study: Study) -> list[Row]:
    """Return what each arm forgets at the task score of full fine-tuning's best trained model."""
    rows: list[Row] = []
    for each in study.results:
        task = each.task
        for arm in _compared(study, task):
            fair = study.fair(arm, FULL)
            level = fair.score(task, fair.best_full(task))
            curve, full = (fair.at(task, name, level) for name in (arm, FULL))
            apart = (curve - full).estimate
            says = verdict(apart, study.knows_seeds(task))
            rows.append(
                {
                    "task": task,
                    f"{TASK} at most": round(float(level[0]), 3),
                    "arm": arm,
                    "seeds": study.seeds(task, arm),
                    "reached, of draws": round(curve.reached, 2),
                    "trained models alone": fair.at(task, arm, level, ends=True).estimate,
                    "with averages": curve.estimate,
                    "minus full's averages": "" if arm == FULL else apart,
                    "says": "" if arm == FULL else says,
                }
            )
    return rows


def by_averaging(study: Study) -> list[Row]:
    """Return how much less full fine-tuning forgets when it is averaged with the base, by rate."""
    rows: list[Row] = []
    shares: list[Reading] = []
    for each in study.results:
        task, points = each.task, study.points(each.task)
        ends = {curve[0] for curve in curves_of(points, FULL, ends=True)}
        best = study.best_full(task)
        for row in sorted(ends, key=lambda row: _rate(points[row])):
            end = study.end(task, row)
            curve = study.at(task, FULL, study.score(task, row))
            share = Reading(1.0, np.ones_like(end.draws)) - curve / end
            shares += [share] if row == best else []
            rows.append(
                {
                    "task": task,
                    "learning rate": _rate(points[row]),
                    "best at the task": "yes" if row == best else "",
                    TASK: round(points[row].values[TASK], 3),
                    "forgotten": end.estimate,
                    "with averages": curve.estimate,
                    "share saved": share.estimate,
                }
            )
    if len(shares) > 1:
        mean = mean_of(shares).estimate
        rows.append({"task": over(shares), "best at the task": "yes", "share saved": mean})
    return rows


def _rate(point: Point) -> float:
    return float(point.params["training.learning_rate"])


def beyond_averaging(study: Study, *, relative: bool = True) -> list[Row]:
    """Return each arm's curve minus that of full fine-tuning, at several levels of the task.

    The rows of several tasks are means. ``Holm`` is the p-value of the level that decides among
    all arms, adjusted.

    Args:
        study: The study.
        relative: Whether these means are of differences as shares of what full's best end forgets;
            there are none where that may be nothing.
    """
    rows, pooled = _differences(
        study, {arm: (arm, FULL) for arm in _rivals(study)}, "arm", relative
    )
    _adjust(pooled)
    return [*rows, *pooled]


def _rivals(study: Study) -> list[str]:
    known = (arm for each in study.results for arm in _compared(study, each.task))
    return [arm for arm in dict.fromkeys(known) if arm != FULL]


def _compared(study: Study, task: str) -> list[str]:
    """Return the arms of a task without searches, whose best of many their own scores chose."""
    return [arm for arm in study.arms(task) if arm not in SPACES]


def _differences(
    study: Study, pairs: Mapping[str, tuple[str, str]], head: str, relative: bool = True
) -> tuple[list[Row], list[Row]]:
    """Return rows of differences of two arms by task, and rows of their means over tasks."""
    rows: list[Row] = []
    pooled: list[Row] = []
    for what, pair in pairs.items():
        fair = study.fair(*pair)
        tasks = [each.task for each in study.results if {*pair} <= {*study.arms(each.task)}]
        found: dict[float, list[Reading]] = {share: [] for share in SHARES}
        for task in tasks:
            row: Row = {head: what, "task": task}
            row["seeds"] = min(fair.seeds(task, arm) for arm in pair) if fair is study else 1
            for share in SHARES:
                level = fair.level(task, share)
                one, other = (fair.at(task, arm, level) for arm in pair)
                row[_of(share)] = (one - other).estimate
                found[share].append(one - other)
            said = verdict(_known(row[_of(DECIDES)]), study.knows_seeds(task))
            rows.append(row | {"says": said})
        ends = [full_end(fair, task) for task in tasks]
        clear = all((own := end.estimate) is not None and own.interval()[0] > 0 for end in ends)
        if len(tasks) > 1 and (clear or not relative):
            row = {head: what, "task": over(tasks)}
            for share, parts in found.items():
                if relative:
                    parts = [x.over(end.value) for x, end in zip(parts, ends, strict=True)]
                row[_of(share)] = mean_of(parts).estimate
            said = verdict(_known(row[_of(DECIDES)]), study.knows_seeds(*tasks))
            pooled.append(row | {"says": said})
    return rows, pooled


def _of(share: float) -> str:
    return f"at {share:.0%} of full's gain"


def _known(cell: Cell) -> IntervalEstimate | None:
    return cell if isinstance(cell, IntervalEstimate) else None


def _adjust(rows: list[Row]) -> None:
    """Add Holm's adjusted p-values of the level that decides (Scand. J. Stat. 6, 1979)."""
    known = {}
    for place, row in enumerate(rows):
        found = _known(row[_of(DECIDES)])
        if found is not None and found.error > 0:
            known[place] = 2 * (1 - NormalDist().cdf(abs(found.value) / found.error))
    least = 0.0
    for rank, place in enumerate(sorted(known, key=lambda place: known[place])):
        least = max(least, min(1.0, known[place] * (len(known) - rank)))
        rows[place]["Holm"] = round(least, 4)


def contrasts(study: Study) -> list[Row]:
    """Return differences of two arms on their curves, of each task and of several together."""
    rows, pooled = _differences(study, CONTRASTS, "compared")
    order = list(CONTRASTS)
    return sorted([*rows, *pooled], key=lambda row: order.index(str(row["compared"])))


def by_depth(study: Study) -> list[Row]:
    """Return what averages by depth forget beyond full's uniform ones at their own task scores.

    Uniform averages are read between those that were made, by straight lines. Where what is
    forgotten is convex in the share, these lie above what an average between them would forget,
    which favours averages by depth.
    """
    rows: list[Row] = []
    for each in study.results:
        task = each.task
        for row, point in enumerate(study.points(task)):
            if point.arm != DEPTH:
                continue
            own, level = study.end(task, row), study.score(task, row)
            apart = (own - study.at(task, FULL, level)).estimate
            rows.append(
                {
                    "task": task,
                    "learning rate": _rate(point),
                    "share": str(point.variant).removeprefix("depth-"),
                    TASK: round(float(level[0]), 3),
                    "forgotten": own.estimate,
                    "minus full's averages": apart,
                    "says": verdict(apart, study.knows_seeds(task)),
                }
            )
    return rows


def searched_settings(study: Study) -> list[Row]:
    """Return what the settings of the searched half fine-tuning do, beyond full's averages.

    Partial dependence of the difference to full's curve, as a share of what full's best end
    forgets, by a regression over the configurations of all tasks.
    """
    points, settings = _beyond_of(study, "search-hft")
    (*found,) = influences(points, settings, ["beyond"])
    rows: list[Row] = []
    for influence in found:
        for key, curve in influence.curves.items():
            chosen = range(len(curve.places))[:: 1 if curve.setting.categorical else 6]
            for place in chosen:
                value = float(curve.places[place])
                shown: Cell = (
                    curve.setting.choices[int(value)]
                    if curve.setting.categorical
                    else round(curve.setting.decode(value), 5)
                )
                mean = IntervalEstimate(float(curve.mean[place]), float(curve.deviation[place]))
                rows.append(
                    {
                        "setting": key,
                        "value": shown,
                        "importance": round(influence.importance[key], 3),
                        "minus full's averages": mean,
                        "explained": round(influence.explained, 2),
                        "configurations": influence.configurations,
                    }
                )
    return rows


def _beyond_of(study: Study, arm: str) -> tuple[list[Point], list[Setting]]:
    """Return the configurations of a search as points, with what they forget beyond full."""
    points: list[Point] = []
    settings: list[Setting] = []
    for each in study.results:
        if arm not in each.sweeps:
            continue
        settings = searched(each.sweeps[arm].config)
        level, end = study.level(each.task, SHARES[1]), full_end(study, each.task).value
        full = study.at(each.task, FULL, level).value
        for point in study.points(each.task):
            if point.arm == arm and point.variant is None:
                key = str(point.configuration)
                value = study.configuration_at(each.task, arm, key, level).value
                trial = f"{each.task} {point.trial}"
                values = {"beyond": (value - full) / end}
                points.append(Point(trial, None, None, "complete", 0, point.params, values))
    return [p for p in points if math.isfinite(p.values["beyond"])], settings


def draw_variance(results: Sequence[TaskResults]) -> list[Row]:
    """Return how much models differ by the draw, and by the order of the data.

    Variances over six draws at one order, and six orders at one draw. Their ratio has the 95 %
    interval of the F distribution; over all tasks sums of squares are added, each divided by that
    of both arms.
    """
    rows: list[Row] = []
    for metric in (LOST, TASK):
        sums = {DRAW: 0.0, ORDER: 0.0}
        freedom = {DRAW: 0, ORDER: 0}
        for each in results:
            if "draws" not in each.sweeps:
                continue
            ends = _ends_by_arm(each.sweeps["draws"].front.points, metric)
            if min(map(len, ends.values())) < 2:
                continue
            squares = {arm: stdev(x) ** 2 * (len(x) - 1) for arm, x in ends.items()}
            own = {arm: len(x) - 1 for arm, x in ends.items()}
            rows.append({"metric": metric, "task": each.task, **_ratio(squares, own, ends)})
            total = sum(squares.values()) or 1.0
            for arm in sums:
                sums[arm] += squares[arm] / total
                freedom[arm] += own[arm]
        if freedom[DRAW] > 5:
            rows.append({"metric": metric, "task": "together", **_ratio(sums, freedom, None)})
    return rows


def _ends_by_arm(points: Sequence[Point], metric: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {DRAW: [], ORDER: []}
    for point in points:
        if point.variant is None and point.state == "complete" and point.measured([metric]):
            found[str(point.arm)].append(point.values[metric])
    return found


def _ratio(
    squares: dict[str, float], freedom: dict[str, int], ends: dict[str, list[float]] | None
) -> Row:
    row: Row = {}
    if ends is not None:
        row |= {f"deviation over {arm}s": round(stdev(x), 4) for arm, x in ends.items()}
    variance = {arm: squares[arm] / freedom[arm] for arm in squares}
    if variance[ORDER] == 0:
        return row
    ratio = variance[DRAW] / variance[ORDER]
    a, b = freedom[DRAW], freedom[ORDER]
    low, high = (ratio / float(f_distribution.ppf(q, a, b)) for q in (0.975, 0.025))
    said = "not decided"
    if low > 1:
        said = "the draw matters more"
    elif high < 1:
        said = "the order matters more"
    return row | {
        "ratio of variances": round(ratio, 2),
        "from": round(low, 2),
        "to": round(high, 2),
        "says": said,
    }


def forecasts(results: Sequence[TaskResults]) -> list[Row]:
    """Return the rank correlation of KL on the task's data with what was forgotten, by task."""
    rows: list[Row] = []
    for each in results:
        found = forecast_correlation(each.sweeps["arms"].front, [LOST])
        if found is not None:
            low, high = found.interval
            row: Row = {"task": each.task, "rank correlation": round(found.correlation, 3)}
            rows.append(row | {"from": round(low, 3), "to": round(high, 3), "models": found.trials})
    return rows


def transfer(study: Study) -> list[Row]:
    """Return what the best configuration of one task is worth on another.

    Of the configurations of the part ``arms``, which are the same on all tasks. Trials are counted
    until one is as good as the best (see ``CLOSE``): in the order of the other task, and expected
    in random order.
    """
    values = {each.task: _by_configuration(study, each) for each in study.results}
    rows: list[Row] = []
    saved: dict[str, list[float]] = {}
    for source, target in permutations(values, 2):
        shared = [key for key in values[source] if key in values[target]]
        if len(shared) < 4:
            continue
        there = np.array([_sortable(values[source][key].value) for key in shared])
        here = np.array([_sortable(values[target][key].value) for key in shared])
        order = np.argsort(there, kind="stable")
        best, taken = int(np.argmin(here)), int(order[0])
        end = full_end(study, target).value
        good = here <= here[best] + CLOSE * end
        needed = int(np.flatnonzero(good[order])[0]) + 1
        expected = (len(shared) + 1) / (int(good.sum()) + 1)
        correlation = float(spearmanr(there, here).statistic)
        low, high = rank_interval(correlation, len(shared))
        behind = values[target][shared[taken]] - values[target][shared[best]]
        saved.setdefault(target, []).append(1 - needed / expected)
        rows.append(
            {
                "from task": source,
                "to task": target,
                "rank correlation": round(correlation, 2),
                "from": round(low, 2),
                "to": round(high, 2),
                "forgets more than the best there": behind.estimate,
                "trials in its order": needed,
                "in random order": round(expected, 1),
            }
        )
    if len(saved) > 1:
        # Rows of one target share its scores: the targets are what was drawn.
        means = [fmean(each) for each in saved.values()]
        half = float(t_distribution.ppf(0.975, len(means) - 1)) * stdev(means) / len(means) ** 0.5
        mean = fmean(means)
        said: Row = {"from task": "all", "to task": "all", "share of trials saved": round(mean, 2)}
        rows.append(said | {"from": round(mean - half, 2), "to": round(mean + half, 2)})
    return rows


def _by_configuration(study: Study, each: TaskResults) -> dict[str, Reading]:
    """Return configuration -> what it forgets at the level; of the part ``arms``."""
    level = study.level(each.task, DECIDES)
    found = {}
    for point in study.points(each.task):
        if point.variant is None and point.arm is not None and "search-" not in point.arm:
            key = str(point.configuration)
            found[key] = study.configuration_at(each.task, str(point.arm), key, level)
    return found


def _sortable(value: float) -> float:
    return value if math.isfinite(value) else 1e9


def steps_of_arms(each: TaskResults) -> list[Row]:
    """Return the product's own table of arms: points as they are, without lines between them."""
    found = arm_table(each.front)
    if found is None:
        return []
    (match,) = found.matches
    return [dict(row) for row in arm_rows(found, match, with_interval, differences=True)]


def repeated_alike(results: Sequence[TaskResults]) -> list[Row]:
    """Return, for models that were trained twice with the same seeds, by how much they differ."""
    rows: list[Row] = []
    for each in results:
        if "draws" not in each.sweeps:
            continue
        seeds = ("selection.seed", "training.seed")
        twins = [
            point
            for point in each.sweeps["draws"].front.points
            if point.variant is None
            and point.state == "complete"
            and all(point.params.get(key) == 0 for key in seeds)
        ]
        for one, other in combinations(twins, 2):
            apart = max(abs(one.values[name] - other.values[name]) for name in (TASK, LOST))
            rows.append({"task": each.task, "largest difference": apart})
    return rows
