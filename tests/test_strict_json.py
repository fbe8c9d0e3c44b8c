"""JSON that any parser reads, and values that come back as they were."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hft_ray.strict_json import dumps, dumps_exact, loads_exact

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def strict(text):
    """Parse as a browser does."""

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null(number):
    content = {"a": number, "b": [1.5, number, {"c": (number,)}]}
    assert strict(dumps(content)) == {"a": None, "b": [1.5, None, {"c": [None]}]}
    assert strict(dumps(content, indent=1)) == strict(dumps(content))


@given(VALUES)
def test_every_value_comes_back_exactly(value):
    text = dumps_exact(value)
    strict(text)
    assert loads_exact(text) == value


def test_a_number_that_is_not_finite_comes_back():
    found = loads_exact(dumps_exact({"x": [math.inf, -math.inf, math.nan]}))["x"]
    assert found[:2] == [math.inf, -math.inf]
    assert math.isnan(found[2])
