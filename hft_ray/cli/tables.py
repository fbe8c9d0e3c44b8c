"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hft_ray.pareto import Front, arm_table
from hft_ray.report.formatting import value_text
from hft_ray.report.rows import arm_rows, front_rows


def front_table(front: Front) -> RenderableType:
    """Return the front as a table with standard errors; the knee has a star."""
    rows = front_rows(front)
    if not rows:
        return Text("The front is empty: no trial is complete with every objective measured.")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=0)
    table.title, table.title_justify = f"Front of {front.sweep}", "left"
    for row in rows:
        row.update({name: row[name].replace("± ", "±") for name in front.objectives})
    for column in rows[0]:
        side: Literal["left", "right"] = "left" if column == "trial" else "right"
        # On a narrow terminal an error goes below its score; all else stays whole.
        whole = column not in front.objectives
        least = None if whole else max(len(each) for row in rows for each in row[column].split())
        heading = _broken(column)
        table.add_column(heading, justify=side, no_wrap=whole, overflow="fold", min_width=least)
    for row in rows:
        knee = row["trial"].endswith("(knee)")
        row["trial"] = row["trial"].replace(" (knee)", "*")
        table.add_row(*row.values(), style="bold" if knee else "")
    return table


def arm_tables(front: Front) -> list[RenderableType]:
    """Return the arms of a sweep side by side: one table per objective but the first."""
    found = arm_table(front)
    if found is None:
        return []
    return [
        plain_table(f"{match.objective} at the same {match.at}", arm_rows(found, match, value_text))
        for match in found.matches
    ]


def plain_table(title: str, rows: Sequence[Mapping[str, str]]) -> RenderableType:
    """Return rows of text as a table, the first column to the left, the others to the right."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.title, table.title_justify = title, "left"
    for index, column in enumerate(rows[0]):
        side: Literal["left", "right"] = "right" if index else "left"
        table.add_column(Text(column), justify=side, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row.values()))
    return table


def _broken(name: str) -> str:
    """Return a heading over several lines, so that six settings fit 80 columns."""
    return name.replace("/", "/\n").replace("_", "_\n")
