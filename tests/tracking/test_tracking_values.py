"""The parts of tracking that need no store."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.config import ConfigError
from hft_ray.tracking import Tracker, artifact_location, tracking_uri
from hft_ray.tracking.events import Artifact, Finish, Metrics, Open, Tags, from_line, to_line
from hft_ray.tracking.names import valid_key
from hft_ray.tracking.spool import Spool
from hft_ray.tracking.values import decode_params, encode_params

simple = st.none() | st.booleans() | st.integers() | st.text(max_size=50)
plain = simple | st.floats(allow_nan=False) | st.lists(simple, max_size=3)


@settings(max_examples=50, deadline=None)
@given(plain)
def test_params_come_back_with_their_types(value):
    assert decode_params(encode_params({"key": value})) == {"key": value}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), ("sft", "sft"), (None, "null"), (True, "true"), ("7", '"7"'), ([1], "[1]")],
)
def test_params_are_readable(value, text):
    assert encode_params({"key": value}) == {"key": text}


def test_keys_are_made_valid():
    assert valid_key("a.b/c-d_e f:g") == "a.b/c-d_e f:g"
    assert valid_key("a[0]é'") == "a_0___"
    assert len(valid_key("x" * 300)) == 250


EVENTS = [
    Open("s", None, params={"a": "1"}, tags={"b": "ü"}),
    Metrics("s", "t", step=3, values={"x": 0.1, "y": float("inf")}),
    Tags("s", "t", tags={"a": "b"}),
    Artifact("s", None, path="a/b", text="line\nline"),
    Finish("s", "t", state="failed", reason="why"),
]


def test_events_survive_the_disk():
    assert [from_line(to_line(event)) for event in EVENTS] == EVENTS


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"kind": "Other"}', '{"kind": "Tags"}'])
def test_broken_lines_are_no_events(line):
    with pytest.raises(ValueError):
        from_line(line)


def test_spool_keeps_order_over_restarts(tmp_path):
    spool = Spool(tmp_path / "new" / "waiting.jsonl")
    spool.append(EVENTS[:3])
    spool.append(EVENTS[3:])
    taken = spool.peek(2)
    assert [event for event, _ in taken] == EVENTS[:2]
    spool.advance([length for _, length in taken])
    assert [event for event, _ in spool.peek(10)] == EVENTS[2:]
    again = Spool(tmp_path / "new" / "waiting.jsonl")
    assert (len(again), [event for event, _ in again.peek(10)]) == (5, EVENTS)
    again.advance([length for _, length in again.peek(10)])
    assert not again.path.exists()
    assert (len(again), again.peek(1)) == (0, [])


def test_default_store_lies_under_the_root(tmp_path):
    uri = tracking_uri(None, tmp_path)
    assert uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert artifact_location(uri, tmp_path) == (tmp_path / "artifacts").as_uri()


def test_uris(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracking_uri("http://host:5000", tmp_path) == "http://host:5000"
    assert artifact_location("http://host:5000", tmp_path) is None
    assert tracking_uri("sqlite:///x.db", tmp_path) == f"sqlite:///{tmp_path}/x.db"
    assert tracking_uri(f"sqlite:///{tmp_path}/x.db", tmp_path) == f"sqlite:///{tmp_path}/x.db"
    assert tracking_uri("postgresql+psycopg2://h/db", tmp_path) == "postgresql+psycopg2://h/db"


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "http//host", ""])
def test_other_uris_are_refused(uri, tmp_path):
    with pytest.raises(ConfigError, match=r"tracking\.uri: must begin with"):
        tracking_uri(uri, tmp_path)


def test_a_password_in_the_uri_is_refused_and_not_shown(tmp_path):
    with pytest.raises(ConfigError) as refused:
        tracking_uri("http://me:secret@host", tmp_path)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "../x", "a'b", "a\nb", "x" * 300])
def test_names_that_could_mean_something_else_are_refused(name, tmp_path):
    tracker = Tracker("http://127.0.0.1:9", "experiment", spool=tmp_path)
    with pytest.raises(ValueError, match="not a valid name"):
        tracker.open_sweep(name, "", {}, {})
    assert tracker.close(1)


def test_importing_the_package_does_not_import_mlflow():
    code = "import sys, hft_ray.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
