"""docs/data.md lists every field of every format, and says of each what the code does with it."""

import re
from pathlib import Path

import pytest

from hft_ray.data import fields

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


def rows(heading):
    """Return the rows of the first table below a heading: cells of each, without the head."""
    (part,) = re.findall(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell):
    return tuple(re.findall(r"`([^`]+)`", cell))


@pytest.mark.parametrize("form", fields.USED)
def test_used_fields_are_those_of_the_page(form):
    listed = [name for first, _ in rows(form) for name in names(first)]
    assert listed == list(fields.USED[form])
    assert all(said for _, said in rows(form))


def test_the_page_has_no_other_format():
    # Training formats and kinds of evaluation are the headings of the third level.
    headings = set(re.findall(r"^### (.*)$", PAGE, re.M))
    assert headings == {*fields.USED, "Fields of a turn"}


def test_fields_of_a_turn():
    assert [name for first, _ in rows("Fields of a turn") for name in names(first)] == [
        *fields.TURN
    ]


def test_harmless_fields():
    listed = {kind: names(cell) for kind, cell in rows("Harmless fields")}
    assert listed == {**fields.HARMLESS, "of a turn": fields.HARMLESS_IN_TURN}


def test_hints():
    found = dict(rows("Refused with a hint"))
    assert found == {
        **{f"`{name}`": said for name, said in fields.REMEDIES.items()},
        **{f"`{name}` of a turn": said for name, said in fields.TURN_REMEDIES.items()},
    }
