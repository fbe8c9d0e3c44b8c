"""What is seen of a running sweep, and how it is said."""

from __future__ import annotations

import io

from rich.console import Console

from hft_ray.cli.sweep_progress import SweepProgress, panel
from hft_ray.cli.tables import front_table
from hft_ray.orchestration.sweep_lines import clock, describe
from hft_ray.orchestration.sweep_view import SweepView
from hft_ray.pareto import Point, build_front

OBJECTIVES = {"task/score": "max", "forgetting/mean": "min"}


def event(kind, trial="t0000", **details):
    return {"event": kind, "trial": trial, **details}


def make_front(points=1, variant=None):
    made = [
        Point(
            trial=f"t{number:04d}",
            variant=variant,
            run_id=None,
            state="complete",
            step=10,
            params={
                "selection.ratio": 1 / (number + 1),
                "selection.granularity": ("category", "layer", "model")[number % 3],
                "selection.reselect": number or "never",
                "training.learning_rate": 0.00123456 * (number + 1),
            },
            values={"task/score": 0.9 - number / 10, "forgetting/mean": 0.5 - number / 10},
            errors={"task/score": 0.0123, "forgetting/mean": 0.0321},
        )
        for number in range(points)
    ]
    return build_front("s", OBJECTIVES, made, {}, {"task/score": 0.0, "forgetting/mean": 1.0})


def follow(view, *events):
    lines = []
    for each in events:
        view.take(each)
        lines.append(describe(each, view))
    return lines


def test_the_view_follows_a_trial_from_queue_to_end():
    view = SweepView("s", planned=3, groups=1)
    assert view.counts() == {"planned": 3}
    assert view.eta is None
    view.take(event("submitted"))
    assert view.counts() == {"queued": 1, "planned": 2}
    view.take(event("started", group=1, attempt=1))
    assert view.counts() == {"running": 1, "planned": 2}
    assert (view.running["t0000"].group, view.running["t0000"].loss) == (1, None)
    view.take(event("report", step=20, metrics={"train/loss": 1.5}))
    assert (view.running["t0000"].step, view.running["t0000"].loss) == (20, 1.5)
    view.take(event("finished", state="complete", step=20, values={}))
    assert view.counts() == {"complete": 1, "planned": 2}
    assert view.running == {}
    assert view.finished == 1
    assert view.eta is not None


def test_a_trial_that_is_tried_again_is_queued_again():
    view = SweepView("s", planned=1, groups=1)
    follow(view, event("submitted"), event("started", group=0, attempt=1))
    follow(view, event("retried", reason="a worker process died", attempt=1))
    assert view.counts() == {"queued": 1}
    assert view.running == {}
    view.take(event("report", step=5, metrics={}))
    assert view.running == {}


def test_the_time_left_counts_what_is_left_for_all_groups():
    view = SweepView("s", planned=10, groups=2)
    view.states = {f"t{n:04d}": "complete" for n in range(4)}
    view.durations = [10.0, 20.0]
    assert view.eta == 15.0 * 6 / 2


def test_clock():
    assert [clock(s) for s in (None, 0, 59.9, 61, 3661)] == ["-", "0:00", "0:59", "1:01", "1:01:01"]


def test_what_happens_in_the_background_is_told():
    view = SweepView("s", planned=2, groups=1)
    away = {"event": "background", "trial": "", "text": "tracking store not reached"}
    assert describe(away, view).endswith("] tracking store not reached")


def test_each_event_worth_a_line_has_one():
    view = SweepView("s", planned=2, groups=1)
    view.front = make_front()
    view.phase = "searching"
    lines = follow(
        view,
        event("submitted"),
        event("started", group=0, attempt=1),
        event("report", step=5, metrics={"train/loss": 1.0}),
        event("retried", reason="a worker process died", attempt=1),
        event("started", group=0, attempt=2),
        event(
            "finished",
            state="complete",
            step=9,
            values={"task/score": 0.5, "forgetting/mean": 0.25, "train/loss": 1.0},
        ),
        event("finished", "t0001", state="failed", reason="the loss became nan", step=0, values={}),
        event("phase", ""),
    )
    said = [None if line is None else line.split("] ", 1)[1] for line in lines]
    assert said == [
        None,
        "t0000 started on group 0",
        None,
        "t0000 will be retried: a worker process died",
        "t0000 started on group 0, attempt 2",
        "t0000 complete: task/score 0.500  forgetting/mean 0.250",
        "t0001 failed: the loss became nan",
        "searching",
    ]
    assert lines[5].startswith("[1/2 0:00] ")


def test_a_stopped_trial_without_scores_is_told_without_a_colon():
    view = SweepView("s", planned=1, groups=1)
    view.front = make_front()
    end = event("finished", state="stopped", reason="stopped before it began", step=0, values={})
    view.take(end)
    assert describe(end, view).endswith("t0000 stopped: stopped before it began")


def test_without_a_terminal_there_are_plain_lines():
    out = io.StringIO()
    view = SweepView("s", planned=1, groups=1)
    with SweepProgress(Console(file=out, width=160), "s") as progress:
        for each in (
            event("submitted"),
            event("started", group=0, attempt=1),
            event("finished", state="failed", reason="[Errno 28] no space [/tmp]", step=0),
        ):
            view.take(each)
            progress(each, view)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    # Brackets in an error are text, no markup.
    assert lines[1].endswith("t0000 failed: [Errno 28] no space [/tmp]")
    assert "\x1b" not in out.getvalue()


def render(what, width=80):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_the_panel_shows_states_running_trials_front_and_times():
    view = SweepView("s", planned=4, groups=2)
    view.phase = "searching"
    follow(view, event("submitted"), event("started", group=1, attempt=1))
    follow(view, event("report", step=120, metrics={"train/loss": 1.23456}))
    follow(view, event("submitted", "t0001"))
    view.front = make_front(2)
    text = render(panel(view))
    for part in ("searching", "1 running", "1 queued", "2 planned", "t0000", "120", "1.2346"):
        assert part in text
    assert "front 2 points" in text
    assert "elapsed 0:00" in text


def test_the_panel_has_no_empty_table():
    view = SweepView("s", planned=4, groups=2)
    assert "loss" not in render(panel(view))


def test_the_front_fits_a_terminal_of_80_columns():
    text = render(front_table(make_front(3)))
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    rows = [line for line in text.splitlines() if "t000" in line]
    assert len(rows) == 3, "a point is one line"
    # Its error may stand below it, and is never cut.
    assert "0.900" in text and "±0.012" in text


def test_what_names_a_point_is_whole_on_a_narrow_terminal():
    text = render(front_table(make_front(3, "alpha-0.8125")))
    assert max(len(line) for line in text.splitlines()) <= 80
    for number in range(3):
        assert f"t000{number} alpha-0.8125" in text
    for setting in ("category", "never", "0.001235"):
        assert setting in text


def test_an_empty_front_is_said_in_words():
    text = render(front_table(make_front(0)))
    assert "The front is empty" in text
