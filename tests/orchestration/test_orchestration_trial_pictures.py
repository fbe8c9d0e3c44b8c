"""Pictures of trials whose drawing raises once or for ever, at every moment of a sweep."""

from __future__ import annotations

import math

import pytest
from waiting import wait_for

from hft_ray.background import BackgroundErrors
from hft_ray.orchestration import trial_pictures
from hft_ray.orchestration.trial_pictures import TrialPictures

QUICK = (0.01, 0.02)
FRACTIONS = {"block_parameters": 0.5, "model_parameters": 0.4}
ROUND = {"step": 0, "fractions": FRACTIONS, "touched_fraction": 0.5, "distances": {"all": math.nan}}
TASKS = {"tasks": ["a"], "general": [], "rows": [{"step": 0, "tasks": [0.5], "general": []}] * 2}
END = {"selection": [ROUND], "steps": 8, "continual": TASKS}
FILES = {"selection.png", "tasks.csv", "tasks.png"}
TRIALS = ["t0", "t1", "t2"]


class Sweep:
    """The pictures of a sweep, what the user was shown and what tracking has got."""

    def __init__(self, folder):
        self.kept, self.shown = {trial: set() for trial in TRIALS}, []
        self.errors = BackgroundErrors(self.shown.append)
        self.pictures = TrialPictures(folder, "s", self.keep, self.errors, QUICK)
        self.pictures.start()

    def keep(self, path, name, trial):
        assert path.stat().st_size > 0
        self.kept[trial].add(name)


@pytest.fixture
def faults(monkeypatch):
    """Let drawing raise as often as the list says."""
    left, draw = [0], trial_pictures.render_sequence

    def striking(*arguments):
        if left[0] > 0:
            left[0] -= 1
            raise RuntimeError("nobody foresaw this")
        draw(*arguments)

    monkeypatch.setattr(trial_pictures, "render_sequence", striking)
    return left


@pytest.mark.parametrize("when", [None, *TRIALS])
def test_an_error_that_passes_costs_no_picture(when, faults, tmp_path):
    sweep = Sweep(tmp_path / "pictures")
    for trial in TRIALS:
        if trial == when:
            faults[0] = 1
        sweep.pictures.draw(trial, END)
        if trial != TRIALS[-1]:  # the last is drawn while the sweep ends
            wait_for(lambda trial=trial: sweep.kept[trial] == FILES)
    sweep.pictures.close(60)
    assert sweep.kept == dict.fromkeys(TRIALS, FILES)
    assert sweep.errors.undone == {}
    assert sweep.errors.counts.total() == (when is not None)
    assert ["nobody foresaw this" in text for text in sweep.shown] == [True] * (when is not None)


@pytest.mark.parametrize("when", TRIALS)
def test_errors_for_ever_are_told_and_the_next_start_draws_what_is_left(when, faults, tmp_path):
    sweep = Sweep(tmp_path / "pictures")
    for trial in TRIALS:
        if trial == when:
            faults[0] = 10**9
        sweep.pictures.draw(trial, END)
        if faults[0] == 0:
            wait_for(lambda trial=trial: sweep.kept[trial] == FILES)
    sweep.pictures.close(60)
    left = len(TRIALS) - TRIALS.index(when)
    assert f"pictures of {left} trial" in sweep.errors.undone["pictures of trials"]
    assert len(sweep.shown) == 1
    faults[0] = 0
    again = Sweep(tmp_path / "pictures")
    again.pictures.close(60)
    assert [again.kept[trial] for trial in TRIALS[-left:]] == [FILES] * left
    assert again.errors.undone == {}


def test_one_picture_that_cannot_be_drawn_holds_back_no_other(tmp_path):
    sweep = Sweep(tmp_path / "pictures")
    sweep.pictures.draw("t0", {**END, "continual": {"tasks": "broken"}})
    sweep.pictures.draw("t1", END)
    wait_for(lambda: sweep.kept["t1"] == FILES)
    sweep.pictures.close(60)
    assert "1 trial" in sweep.errors.undone["pictures of trials"]


def test_a_full_disk_is_tried_again(tmp_path):
    (tmp_path / "pictures").write_text("where the folder should be")
    sweep = Sweep(tmp_path / "pictures")
    sweep.pictures.draw("t0", END)
    wait_for(lambda: sweep.errors.counts.total() > 0)
    (tmp_path / "pictures").unlink()
    sweep.pictures.close(60)
    assert sweep.kept["t0"] == FILES
    assert sweep.errors.undone == {}


def test_a_trial_without_rounds_has_no_picture(tmp_path):
    sweep = Sweep(tmp_path / "pictures")
    sweep.pictures.draw("t0", {"selection": None, "steps": 0})
    sweep.pictures.close(60)
    assert sweep.kept["t0"] == set()
    assert not (tmp_path / "pictures").exists()
