"""A sweep whose MLflow server, on PostgreSQL, freezes and dies in the middle of a trial."""

from __future__ import annotations

import itertools
import re
import signal
import statistics
import time

import pytest
from servers import MlflowServer, Postgres
from sweep_driver import SweepDriver, write_file

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(1500)]

STEPS = """
select tags.value, metrics.step from metrics join tags using (run_uuid)
where metrics.key = 'train/loss' and tags.key = 'hft_ray.trial' order by metrics.step
"""
EVERY = 10
"""Steps between two reports; the steps of this model take milliseconds."""
RUNS = "select count(*), count(distinct name) from runs where lifecycle_stage = 'active'"


@pytest.fixture
def server(tmp_path):
    postgres = Postgres()
    server = MlflowServer(tmp_path, postgres)
    try:
        server.launch()
        server.wait()
        yield server
    finally:
        server.stop()
        postgres.close()


def report_times(driver):
    times = [re.search(r"'time': ([\d.]+)", line) for line in driver.events() if "'report'" in line]
    return [float(found[1]) for found in times]


def wait_for_reports(driver, count):
    end = time.monotonic() + 400
    while len(report_times(driver)) < count:
        assert driver.process.poll() is None, driver.said()
        assert time.monotonic() < end, driver.said()
        time.sleep(0.2)


def wait_for_line(driver, file, text):
    end = time.monotonic() + 400
    while text not in file.read_text():
        assert driver.process.poll() is None, driver.said()
        assert time.monotonic() < end, driver.said()
        time.sleep(0.2)


@pytest.mark.parametrize("seconds", [8, 60])
def test_training_never_waits_for_tracking(tiny_file, tmp_path, server, seconds, record_property):
    content = tiny_file | {"name": "outage", "tracking": {"uri": server.uri}}
    content["training"] = tiny_file["training"] | {"steps": 100_000, "log_every": EVERY}
    content["evaluation"] = {"general": tiny_file["evaluation"]["general"][:1]}
    content["search"] = {
        "trials": 1,
        "objectives": {"general/texts": "min"},
        "space": {"selection.ratio": [0.25, 0.5]},
        "variants": {"averages": 0, "half_reset": False},
    }
    root = tmp_path / "home"
    root.mkdir()
    driver = SweepDriver(write_file(tmp_path, content), root)
    try:
        wait_for_reports(driver, 20)
        began = time.time()
        server.signal(signal.SIGSTOP)  # connections stay open and nobody answers
        time.sleep(seconds / 2)
        server.stop()  # connections are refused
        time.sleep(seconds / 2)
        ended = time.time()
        server.launch()
        server.wait()
        # A sweep that is stopped waits for what is behind for some seconds only; the rest stays in
        # its spool for the next start.
        wait_for_line(driver, root / "sweeps/outage/events.jsonl", "tracking_regained")
        wait_for_reports(driver, len(report_times(driver)) + 10)
        times = report_times(driver)
        driver.interrupt()
        assert driver.wait(120) == 130, driver.said()
    finally:
        driver.close()
    before = gaps([each for each in times if each < began])
    during = gaps([began, *(each for each in times if began <= each < ended), ended])
    for name, found in (("before", before), ("during", during)):
        record_property(f"median of reports {name}", statistics.median(found))
        record_property(f"longest wait for a report {name}", max(found))
    # A training that waited would have made no step at all.
    assert max(during) < max(seconds / 2, 10 * max(before))
    assert len(during) > seconds / statistics.mean(before) / 5
    rows = server.postgres.rows(STEPS)
    assert {trial for trial, _ in rows} == {"t0000"}
    steps = [step for _, step in rows]
    assert steps == [EVERY * (number + 1) for number in range(len(steps))]
    assert len(steps) >= len(times)
    assert server.postgres.rows(RUNS) == [(2, 2)]
    journal = (root / "sweeps/outage/events.jsonl").read_text()
    assert journal.index("tracking_lost") < journal.index("tracking_regained")


def gaps(times):
    return [later - earlier for earlier, later in itertools.pairwise(times)]
