"""Simulated sweeps: tables, virtual time, faults, and drivers that are killed."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from studies import stored

from hft_ray.config import ConfigError
from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.simulate import simulate
from hft_ray.search.table import CurvePoint, Table, read_table

SPACE = {
    "selection.ratio": {"low": 0.1, "high": 0.9},
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "selection.granularity": ["model", "layer"],
}
RAW = {
    "name": "s",
    "model": "m",
    "data": {"train": "d.jsonl"},
    "training": {"steps": 90},
    "evaluation": {"every": 10},
    "search": {"space": SPACE, "trials": 12},
    "cluster": {"groups": 3},
}


def make_config(**search):
    return validate({**RAW, "search": {**RAW["search"], **search}}, "FILE")


def row(step=10, score=0.5, lost=0.1, seconds=None, **params):
    return {
        "params": {f"selection.{key}": value for key, value in params.items()},
        "step": step,
        "metrics": {"task/score": score, "forgetting/mean": lost},
        "seconds": float(step) if seconds is None else seconds,
    }


def write(path, rows):
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


def rows_of(count, rng):
    """Curves of random configurations: more trained learns more and loses more."""
    for _ in range(count):
        ratio = rng.uniform(0.1, 1.0)
        for step in (10, 30, 60, 90):
            done = step / 90
            yield row(step, done * ratio**0.5 + rng.gauss(0, 0.01), done * ratio, ratio=ratio)


# Tables.


def test_rows_become_curves_by_configuration_and_repetition(tmp_path):
    rows = [row(20, 0.7, ratio=0.5), row(10, 0.6, ratio=0.5), row(10, 0.1, ratio=0.9)]
    rows += [row(0, 0.05), row(10, 0.65, ratio=0.5)]
    table = read_table(write(tmp_path / "t.jsonl", rows), make_config())
    assert table.base == {"task/score": 0.05, "forgetting/mean": 0.1}
    curves = {
        tuple(
            (score.step, score.metrics["task/score"])
            for score in table.curve(f"t{i}", {"selection.ratio": 0.5})
        )
        for i in range(40)
    }
    assert curves == {((10, 0.6), (20, 0.7)), ((10, 0.65),)}
    assert table.worst({"task/score": "max", "forgetting/mean": "min"})["task/score"] == 0.1


def test_parquet_json_lines_and_compressed_ones_are_the_same_table(tmp_path):
    rows = [
        row(10, ratio=0.5),
        {**row(20, ratio=0.9), "params": {"selection.granularity": "layer"}},
    ]
    config = make_config()
    plain = read_table(write(tmp_path / "t.jsonl", rows), config)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "structs.parquet")
    texts = [{**each, "params": json.dumps(each["params"])} for each in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(texts), tmp_path / "texts.parquet")
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress((tmp_path / "t.jsonl").read_bytes()))
    for name in ("structs.parquet", "texts.parquet", "t.jsonl.gz"):
        table = read_table(tmp_path / name, config)
        for asked in ({"selection.ratio": 0.4}, {"selection.granularity": "layer"}):
            assert table.curve("t0000", asked) == plain.curve("t0000", asked)


def test_the_nearest_configuration_answers():
    curves = [
        ({"selection.ratio": 0.2, "training.learning_rate": 1e-4}, [CurvePoint(1, {}, 1.0)]),
        ({"selection.ratio": 0.2, "training.learning_rate": 1e-3}, [CurvePoint(2, {}, 1.0)]),
        ({"selection.ratio": 1.0, "training.learning_rate": 1e-3}, [CurvePoint(3, {}, 1.0)]),
        ({"selection.ratio": 0.2, "selection.granularity": "layer"}, [CurvePoint(4, {}, 1.0)]),
    ]
    table = Table(make_config(), curves, {})

    def found(**asked):
        base = {"ratio": 0.2, "rate": 1e-4, "granularity": "category"} | asked
        params = {
            "selection.ratio": base["ratio"],
            "training.learning_rate": base["rate"],
            "selection.granularity": base["granularity"],
        }
        return table.curve("t0000", params)[0].step

    # A learning rate is near or far by its logarithm.
    assert [found(rate=rate) for rate in (2e-4, 3.3e-4, 9e-4)] == [1, 2, 2]
    # Full fine-tuning lies outside the interval, and is not taken for its end.
    assert (found(ratio=1.0, rate=1e-3), found(ratio=0.5, rate=1e-3)) == (3, 2)
    assert found(granularity="layer", rate=2e-5) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows after step 0"),
        ("{", r"t.jsonl:1.*not a JSON object"),
        ('{"params": {}, "step": 1, "metrics": {}}', "needs params, step, metrics and seconds"),
        ('{"params": [], "step": 1, "metrics": {}, "seconds": 1}', "needs params, step"),
        (json.dumps({**row(), "metrics": {"task/score": 1}}), "no values of forgetting/mean"),
        (json.dumps(row(lost=float("nan"))), "no values of forgetting/mean"),
    ],
)
def test_a_useless_table_is_refused(tmp_path, text, message):
    (tmp_path / "t.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_table(tmp_path / "t.jsonl", make_config())


def test_a_table_that_is_not_there_or_not_parquet_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_table(tmp_path / "none.jsonl", make_config())
    (tmp_path / "t.parquet").write_text("no", encoding="utf-8")
    with pytest.raises(ConfigError, match="not in the Parquet format"):
        read_table(tmp_path / "t.parquet", make_config())
    whole = gzip.compress(json.dumps(row()).encode())
    for content in (b"no", whole[:-9], whole[:14] + b"\xff" * 9 + whole[23:]):
        (tmp_path / "t.jsonl.gz").write_bytes(content)
        with pytest.raises(ConfigError, match="cannot be read"):
            read_table(tmp_path / "t.jsonl.gz", make_config())


# Virtual time.


class Fixed:
    """The same curve for all but those that are named."""

    def __init__(self, **special):
        self.special = special

    def curve(self, trial, params):
        ratio = params["selection.ratio"]
        metrics = {"task/score": ratio, "forgetting/mean": ratio}
        usual = [CurvePoint(step, metrics, float(step)) for step in (10, 90)]
        return self.special.get(trial, usual)


def test_slots_and_time_are_those_of_a_sweep(tmp_path):
    study = Study(make_config(trials=7), tmp_path / "search.jsonl")
    events = list(simulate(study, Fixed(), 3))
    times = [event.time for event in events]
    assert times == sorted(times)
    ends = [event.time for event in events if event.kind == "finished"]
    assert ends == [90.0, 90.0, 90.0, 180.0, 180.0, 180.0, 270.0]
    running = 0
    for event in events:
        running += {"submitted": 1, "finished": -1}.get(event.kind, 0)
        assert 0 <= running <= 3
    assert [known.result["state"] for known in study.trials()] == ["complete"] * 7
    assert study.left() == 0


def test_faults_are_those_of_a_sweep(tmp_path):
    values = {"task/score": 0.5, "forgetting/mean": 0.1}
    special = {
        "t0001": [
            CurvePoint(10, values, 5.0),
            CurvePoint(20, {}, 9.0, failed="the loss became nan"),
        ],
        "t0002": [CurvePoint(90, {**values, "task/score": float("nan")}, 9.0)],
        "t0003": [CurvePoint(90, {"task/score": 0.5}, 9.0)],
    }
    study = Study(make_config(scheduler="asha"), tmp_path / "search.jsonl")
    events = list(simulate(study, Fixed(**special), 3))
    results = {known.trial: known.result for known in study.trials()}
    assert [results[f"t000{i}"]["state"] for i in (1, 2, 3)] == ["failed"] * 3
    assert results["t0001"]["reason"] == "the loss became nan"
    assert results["t0002"]["reason"] == "no finite value for task/score"
    states = Counter(result["state"] for result in results.values())
    assert states["failed"] == 3
    assert states["complete"] + states["pruned"] == 9
    assert Counter(event.kind for event in events)["finished"] == 12


def test_a_stopped_trial_makes_room_at_once(tmp_path):
    study = Study(make_config(scheduler="asha", trials=40, sampler="random"), tmp_path / "s.jsonl")
    rng = random.Random(1)

    class Noisy:
        def curve(self, trial, params):
            quality = rng.random()
            metrics = {"task/score": quality, "forgetting/mean": 1 - quality}
            return [CurvePoint(step, metrics, float(step)) for step in (10, 30, 90)]

    events = list(simulate(study, Noisy(), 4))
    stopped = [e for e in events if e.kind == "finished" and e.details["state"] == "pruned"]
    assert len(stopped) > 15
    assert {event.step for event in stopped} == {10, 30}
    begun = {event.time for event in events if event.kind == "submitted"}
    assert {event.time for event in stopped[:10]} <= begun
    assert max(event.time for event in events) < 40 * 90 / 4 / 1.5


def test_an_interrupted_sweep_goes_on(tmp_path):
    study = Study(make_config(), tmp_path / "search.jsonl")
    seen = []
    for event in simulate(study, Fixed(), 3, lambda: len(seen) >= 9):
        seen.append(event)
    assert study.left() > 0
    again = Study(make_config(), tmp_path / "search.jsonl")
    list(simulate(again, Fixed(), 3))
    assert [known.result["state"] for known in again.trials()] == ["complete"] * 12


# Drivers that are killed.

DRIVER = """
import json, sys, time
from pathlib import Path
from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.simulate import simulate
from hft_ray.search.table import read_table

raw, folder, table, pause = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
config = validate(raw, "FILE")
study = Study(config, folder / "search.jsonl")
print("ready", flush=True)
for event in simulate(study, read_table(Path(table), config), 4):
    time.sleep(float(pause))
"""


def drive(raw, folder, table, pause):
    command = [sys.executable, "-c", DRIVER, json.dumps(raw), folder, table, str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def decisions(folder):
    return {
        (each["trial"], each["rung"]): each["stop"]
        for frozen in stored(folder).trials
        for key, each in frozen.user_attrs.items()
        if key.startswith("rung:")
    }


def killed_often(tmp_path, kills):
    raw = {**RAW, "search": {**RAW["search"], "trials": 30, "scheduler": "asha"}}
    config = validate(raw, "FILE")
    table = write(tmp_path / "t.jsonl", rows_of(40, random.Random(3)))
    rng, before, ended = random.Random(kills), {}, {}
    for _ in range(kills):
        driver = drive(raw, tmp_path, table, 0.01)
        driver.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.5))
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        study = Study(config, tmp_path / "search.jsonl")
        now = decisions(tmp_path)
        # What was decided and what had ended stays as it was.
        assert before.items() <= now.items()
        finished = {k.trial: k.result for k in study.trials() if k.state != "running"}
        assert ended.items() <= finished.items()
        before, ended = now, finished
    last = drive(raw, tmp_path, table, 0)
    assert last.wait(timeout=300) == 0
    study = Study(config, tmp_path / "search.jsonl")
    trials = study.trials()
    assert [known.trial for known in trials] == [f"t{number:04d}" for number in range(30)]
    assert {known.state for known in trials} <= {"complete", "pruned"}
    assert ended.items() <= {known.trial: known.result for known in trials}.items()
    made = decisions(tmp_path)
    assert before.items() <= made.items()
    for known in trials:
        stops = [rung for (trial, rung), stop in made.items() if trial == known.trial and stop]
        assert len(stops) == (known.state == "pruned"), known
        assert not stops or max(r for t, r in made if t == known.trial) == stops[0]


def test_a_killed_driver_loses_no_trial_and_repeats_none(tmp_path):
    killed_often(tmp_path, 2)


@pytest.mark.soak
def test_a_driver_killed_ten_times_loses_no_trial_and_repeats_none(tmp_path):
    killed_often(tmp_path, 10)


def test_half_a_line_at_the_end_is_taken_away(tmp_path):
    path = tmp_path / "search.jsonl"
    study = Study(make_config(), path)
    known = study.next_trial()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 6, "tri')
    again = Study(make_config(), path)
    assert again.next_trial().params == known.params
    assert path.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_damaged_line_in_the_middle_is_refused(tmp_path):
    path = tmp_path / "search.jsonl"
    Study(make_config(), path).next_trial()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "oh\n", *lines[3:]]))
    with pytest.raises(ConfigError, match=r"search.jsonl:3.*damaged"):
        Study(make_config(), path)


@pytest.mark.soak
def test_two_thousand_trials_on_64_slots_take_minutes(tmp_path):
    raw = {**RAW, "search": {**RAW["search"], "trials": 2000, "scheduler": "asha"}}
    config = validate(raw, "FILE")
    table = write(tmp_path / "t.jsonl", rows_of(200, random.Random(3)))
    study = Study(config, Path(tmp_path) / "search.jsonl")
    started = time.monotonic()
    list(simulate(study, read_table(table, config), 64))
    assert study.left() == 0
    assert time.monotonic() - started < 300
