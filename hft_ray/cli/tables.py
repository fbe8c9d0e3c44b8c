"""Results as tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from hft_ray.pareto import Front, front_rows


def front_table(front: Front) -> Table:
    """Return the front as a table with standard errors."""
    rows = front_rows(front)
    table = Table(title=f"Front of {front.sweep}", title_justify="left", header_style="bold")
    for column in rows[0] if rows else ["trial"]:
        table.add_column(column, justify="left" if column == "trial" else "right")
    for row in rows:
        table.add_row(*row.values())
    return table
