"""The pictures: complete, escaped, and loading nothing."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import matplotlib.image
import pytest

from hft_ray.pareto import Point, build_front
from hft_ray.report import format_value
from hft_ray.report.front_html import render_html
from hft_ray.report.front_png import render_png
from hft_ray.report.html_page import table
from hft_ray.report.rows import front_rows

EVIL = "<script>alert('x')</script><img src=http://evil.example/x.png>%{x}$a_1$"
TWO = {"task/score": "max", "forgetting/mean": "min"}
REFERENCE = {"task/score": 0.0, "forgetting/mean": 1.0, "cost/seconds": 100.0}


def front_of(rows, objectives=TWO, sweep="sweep"):
    """Rows: trial, state, ratio, granularity, score, forgetting."""
    points = [
        Point(
            trial,
            None,
            f"run-of-{trial}",
            state,
            120,
            {"selection.ratio": ratio, "selection.granularity": granularity, "data.train": EVIL},
            {"task/score": score, "forgetting/mean": lost, "cost/seconds": 50.0 * ratio},
            {"task/score": 0.012, "forgetting/mean": 0.018},
        )
        for trial, state, ratio, granularity, score, lost in rows
    ]
    reference = {name: REFERENCE[name] for name in objectives}
    return build_front(sweep, objectives, points, {"task/score": 0.1}, reference)


ROWS = [
    ("t000", "complete", 1.0, "category", 0.95, 0.6),
    ("t001", "complete", 0.5, "category", 0.9, 0.2),
    ("t002", "complete", 0.3, "layer", 0.5, 0.05),
    ("t003", "complete", 0.6, "model", 0.4, 0.5),
    ("t004", "pruned", 0.7, "layer", 0.3, 0.4),
    ("t005", "failed", 0.7, "layer", math.nan, math.nan),
]


class Loads(HTMLParser):
    """Collects every attribute that would make a browser fetch or follow something."""

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        names = {"src", "href", "srcset", "action", "data", "poster", "background"}
        self.found += [(tag, name, value) for name, value in attrs if name in names]
        self.found += [(tag, k, v) for k, v in attrs if k == "style" and v and "url(" in v]


@pytest.fixture(scope="module")
def evil_page():
    rows = [(EVIL, "complete", 1.0, EVIL, 0.9, 0.3), *ROWS]
    return render_html(front_of(rows, sweep=EVIL), {EVIL: EVIL})


def test_page_loads_nothing_and_forbids_it(evil_page):
    parser = Loads()
    parser.feed(evil_page)
    assert parser.found == []
    assert "link" not in parser.tags
    assert "img" not in parser.tags
    assert "default-src 'none'" in evil_page
    assert "@import" not in re.sub(r"<script.*?</script>", "", evil_page, flags=re.S)


def test_page_escapes_names(evil_page):
    assert "<script>alert" not in evil_page
    assert "<img src" not in evil_page
    assert "&lt;script&gt;alert" in evil_page
    # in the figure's JSON "<" is written as \u003c, and the text itself is escaped once more
    figure = re.search(r'"hovertext":\["(.*?)"\]', evil_page).group(1)
    assert "\\u003cscript" not in figure
    assert "&lt;script" in figure


def test_page_always_shows_base_full_and_knee():
    page = render_html(front_of(ROWS), {"model": "demo"})
    for text in ("base model", "full fine-tuning", "knee: t001", "bottom right", "run-of-t002"):
        assert text in page
    assert "0.900 [0.876,\N{NO-BREAK SPACE}0.924]" in page
    assert "model: demo" in page


@pytest.mark.parametrize(
    ("directions", "corner"),
    [("max min", "bottom right"), ("min max", "top left"), ("max max", "top right")],
)
def test_page_names_the_better_corner(directions, corner):
    objectives = dict(zip(TWO, directions.split(), strict=True))
    assert f"towards the {corner}" in render_html(front_of(ROWS, objectives))


def test_three_objectives_have_parallel_coordinates():
    page = render_html(front_of(ROWS, {**TWO, "cost/seconds": "min"}))
    assert "All objectives" in page
    assert page.count("plotly.js v") == 1  # the library is inlined once


def test_png_is_drawn(tmp_path):
    for name, rows in {"full": ROWS, "empty": []}.items():
        render_png(front_of(rows, sweep=EVIL), tmp_path / f"{name}.png")
        image = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert image.shape == (1080, 1680, 4)
        assert image.std() > 0.01


def test_table_rows():
    rows = front_rows(front_of(ROWS))
    assert rows[1] == {
        "trial": "t001 (knee)",
        "task/score": "0.900 ± 0.012",
        "forgetting/mean": "0.200 ± 0.018",
        "ratio": "0.5",
        "granularity": "category",
    }
    assert [row["trial"] for row in rows] == ["t000", "t001 (knee)", "t002"]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.9123, 0.0134, "0.912 ± 0.013"),
        (12.3, 4.0, "12.3 ± 4.0"),
        (1234.0, 56.0, "1234 ± 56"),
        (0.5, None, "0.5"),
        (0.5, 0.0, "0.5"),
        (math.nan, 0.1, "–"),
        (None, None, "–"),
    ],
)
def test_format_value(value, error, text):
    assert format_value(value, error) == text


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_page_renders_in_a_browser(tmp_path, evil_page):
    frame = tmp_path / "frame.html"
    (tmp_path / "front.html").write_text(evil_page)
    frame.write_text('<iframe sandbox="allow-scripts" src="front.html" width=1200></iframe>')
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    log = tmp_path / "net.json"
    command += [f"--log-net-log={log}", "--virtual-time-budget=3000", "--window-size=1200,1000"]
    dump = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "front.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert dump.count('class="point"') >= len(ROWS)  # plotly has drawn its marks
    assert "base model" in dump
    assert "evil.example" not in "".join(_requested(log))
    shot = tmp_path / "shot.png"
    subprocess.run(
        [*command, f"--screenshot={shot}", frame.as_uri()],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert matplotlib.image.imread(shot).std() > 0.01


def _requested(log):
    text = log.read_text()
    events = json.loads(text if text.rstrip().endswith("}") else text.rstrip().rstrip(",") + "]}")
    urls = [str(event.get("params", {}).get("url", "")) for event in events["events"]]
    return [url for url in urls if url.startswith(("http:", "https:"))]


def test_names_in_heads_break_after_their_separators_alone():
    page = table(["forgetting/mean", "learning_rate", "a<b"], [])
    assert "<th>forgetting/<wbr>mean</th>" in page
    assert "<th>learning_<wbr>rate</th>" in page
    assert "<th>a&lt;b</th>" in page
