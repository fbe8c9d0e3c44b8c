"""Which points of a trial add to the front: its end, averages with the base, scores on the way.

Reads a table that benchmarks/record_curves.py wrote, and prints for each seed the hypervolume of
the trained models alone, with their averages, with their scores on the way, and with both.

    python benchmarks/curve_points.py TABLE.jsonl
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from hft_ray.pareto.dominance import minimised
from hft_ray.pareto.hypervolume import hypervolume
from hft_ray.pareto.points import Direction

OBJECTIVES: dict[str, Direction] = {"task/score": "max", "forgetting/mean": "min"}
WORST = {"task/score": 0.0, "forgetting/mean": 1.0}
Rows = list[dict[str, Any]]


def read(path: Path) -> dict[int, list[Rows]]:
    """Return seed -> the rows of each training that did not fail."""
    opened = gzip.open if path.suffix == ".gz" else open
    trainings: dict[str, Rows] = defaultdict(list)
    with opened(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["params"]:
                trainings[json.dumps(row["params"])].append(row)
    found: dict[int, list[Rows]] = defaultdict(list)
    for rows in trainings.values():
        if not any("failed" in row for row in rows):
            found[rows[0]["params"]["training.seed"]].append(rows)
    return found


def worth(rows: Rows) -> float:
    """Return the hypervolume of some scores."""
    values = minimised([row["metrics"] for row in rows], OBJECTIVES)
    return hypervolume(values, minimised([WORST], OBJECTIVES)[0])


def main() -> None:
    """Print a line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    for seed, trainings in sorted(read(parser.parse_args().table).items()):
        trained = [[row for row in rows if "variant" not in row] for rows in trainings]
        ends = [rows[-1] for rows in trained]
        way = [row for rows in trained for row in rows[:-1]]
        averages = [row for rows in trainings for row in rows if "variant" in row]
        parts = {
            "trained": ends,
            "+ averages": ends + averages,
            "+ on the way": ends + way,
            "+ both": ends + averages + way,
        }
        told = ", ".join(f"{name} {worth(rows):.4f}" for name, rows in parts.items())
        print(f"seed {seed}, {len(ends)} trainings: {told}")


if __name__ == "__main__":
    main()
