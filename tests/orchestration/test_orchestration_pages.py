"""What a user sees in a browser: the report, and MLflow's pages of a small sweep.

The pictures are taken too; ``pytest --basetemp DIR`` keeps them in DIR.
"""

from __future__ import annotations

import re
import shutil

import pytest
from recorded_sweep import Sweep
from servers import MlflowServer
from test_orchestration_front_models import make_file

from hft_ray.tracking import source_tags

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not CHROMIUM, reason="needs an installed Chromium or Chrome"),
]
LONG = 300_000
"""Milliseconds: MLflow's pages load slowly on a busy machine."""
SPACE = {
    "selection.ratio": {"low": 0.1, "high": 1.0},
    "training.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
}
RESULTS = [(0.9, 0.4), (0.92, 0.2), (0.7, 0.1), (0.5, 0.3), (0.95, 0.35)]
"""Task score and forgetting of each trial; the first is full fine-tuning."""
FRONT, DOMINATED = ["t0004", "t0001", "t0002"], ["t0000", "t0003"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of five trials on a server, and its record there."""
    folder = tmp_path_factory.mktemp("pages")
    server = MlflowServer(folder)
    server.launch()
    try:
        server.wait()
        file = make_file(folder, tracking={"uri": server.uri})
        made = Sweep(folder / "root", file, source_tags("pages.yaml"), trials=5, space=SPACE)
        for score, lost in RESULTS:
            made.end(made.start(), score=score, lost=lost)
        made.recorder.write_report(made.study.trials())
        made.close("complete")
        yield made
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        made = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield made
        made.close()


@pytest.fixture
def open_page(browser, request, tmp_path):
    """Open an address in a window of a size and colour scheme; its picture is kept."""
    contexts = []

    def opened(url, width=1280, scheme="light"):
        size = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(LONG)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.pages[0].screenshot(path=tmp_path / "page.png", full_page=True)
        context.close()


def brightness(page, what):
    """Return the brightness of the body's ``backgroundColor`` or ``color``, in [0, 1]."""
    said = page.evaluate(f"getComputedStyle(document.body).{what}")
    return sum(map(int, re.findall(r"\d+", said)[:3])) / (3 * 255)


def check_report(page):
    """Check what the report shows, in whatever frame it is."""
    page.wait_for_selector(".point")
    assert page.locator(".point").count() >= len(RESULTS)
    said = page.inner_text("body")
    first = said.index(
        "At the task/score of full fine-tuning (0.9), t0001 forgets 0.2 instead of 0.4"
    )
    assert first < said.index("The knee, the best compromise, is t0001")
    assert "hft-ray export s --select trial:t0001 --out DIR" in said
    assert "P is the probability that a point is on the front" in said
    rows = page.locator("table").first.locator("tbody tr").all_inner_texts()
    assert [row.split()[0].strip("✚★") or row.split()[1] for row in rows] == [
        *FRONT,
        "t0000",
        "base",
    ]
    # It is read without scrolling sideways.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    fits = "table => table.scrollWidth <= table.parentElement.clientWidth"
    assert page.evaluate(f"[...document.querySelectorAll('table')].every({fits})")


SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])


def check_colours(page, scheme):
    """Check that a page is in the colours that its reader prefers."""
    ink, paper = brightness(page, "color"), brightness(page, "backgroundColor")
    assert (ink < 0.3 and paper > 0.9) if scheme == "light" else (ink > 0.8 and paper < 0.1)


@SCHEMES
@pytest.mark.parametrize("width", [1280, 1920])
def test_the_report_on_a_laptop_and_on_a_large_screen(sweep, open_page, width, scheme):
    report = sweep.root / "sweeps" / "s" / "front" / "front.html"
    page = open_page(report.as_uri(), width, scheme)
    check_report(page)
    check_colours(page, scheme)


@SCHEMES
def test_the_report_in_mlflows_frame(sweep, open_page, scheme):
    record = sweep.record()
    place = f"experiments/{record.experiment_id}/runs/{record.run_id}"
    page = open_page(
        f"{sweep.config.tracking.uri}/#/{place}/artifacts/front/front.html", 1920, scheme
    )
    page.wait_for_selector("iframe")
    frame = page.frame_locator("iframe").locator("html").element_handle().owner_frame()
    check_report(frame)
    check_colours(frame, scheme)


@SCHEMES
def test_the_run_list_has_no_empty_column(sweep, open_page, scheme):
    record = sweep.record()
    where = f"experiments/{record.experiment_id}/runs"
    page = open_page(f"{sweep.config.tracking.uri}/#/{where}", 1920, scheme)
    page.get_by_text("pages.yaml").wait_for()
    page.get_by_text("s-base").wait_for()
    said = page.inner_text("body")
    assert "Sweeps of hft-ray" in said
    assert re.search(r"Dataset\s+Duration\s+Source\s+Models", said)
    for data, context in (("train.jsonl", "Training"), ("answers", "Task"), ("facts", "General")):
        assert re.search(rf"{data} \(\w+\)\s+{context}", said)
    # The trials are below it.
    assert "6 matching runs" in said


def test_the_page_of_models_is_the_front(sweep, open_page):
    record = sweep.record()
    where = f"experiments/{record.experiment_id}/models"
    # Columns beside the window are not on the page, and cells come one after another.
    page = open_page(f"{sweep.config.tracking.uri}/#/{where}", 2880)
    page.get_by_text("s-base").wait_for()
    page.get_by_text("answers (#").first.wait_for()
    for score, _ in (RESULTS[int(trial[1:])] for trial in FRONT):
        page.get_by_text(str(score), exact=True).first.wait_for()
    said = page.inner_text("body")
    for trial in FRONT:
        assert re.search(rf"s-{trial}\s+Ready", said)
    # One that has left the front stays, without its status; one that never was on it has no model.
    assert re.search(r"s-t0000\s+(?!Ready)", said)
    assert "s-t0003" not in said
