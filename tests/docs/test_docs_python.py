"""docs/python.md: every call in it fits the function, and every function is in it."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import hft_ray

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
CALLS = [
    node
    for block in BLOCKS
    for node in ast.walk(ast.parse(block))
    if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("hft_ray.")
]


@pytest.mark.parametrize("call", CALLS, ids=ast.unparse)
def test_a_call_fits_the_function(call):
    function = getattr(hft_ray, ast.unparse(call.func).removeprefix("hft_ray."))
    named = {each.arg: each.value for each in call.keywords}
    inspect.signature(function).bind(*call.args, **named)


def test_every_function_has_its_row():
    rows = set(re.findall(r"^\| `(\w+)\(", PAGE, re.M))
    assert rows == {name for name in hft_ray.__all__ if inspect.isfunction(getattr(hft_ray, name))}
    errors = set(re.findall(r"^\| `(\w+Error)`", PAGE, re.M))
    assert errors == {name for name in hft_ray.__all__ if name.endswith("Error")}


def test_the_first_example_is_ten_lines():
    assert len([line for line in BLOCKS[0].splitlines() if line]) <= 10
