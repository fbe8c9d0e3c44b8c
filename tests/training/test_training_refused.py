"""Checkpoints that are damaged or of another run, as a run meets them."""

import pytest
from lives_cases import REFUSED, SETTING, started_at

NEWEST = "step-00000009"


@pytest.fixture(scope="module")
def damaged(lives):
    assert lives.codes("damaged") == [0], lives.log("damaged")
    return lives.result("damaged")


@pytest.mark.parametrize("case", ["truncated", "missing", "manifest cut", "manifest missing"])
def test_an_older_checkpoint_is_used_when_the_newest_is_damaged(lives, damaged, case):
    found = damaged[case]
    problem, chosen = found["told"]
    assert NEWEST in problem
    file = "manifest.json" if "manifest" in case else "state-00000-00000.safetensors"
    assert file in problem
    assert ("missing" in problem or "No such file" in problem) == ("missing" in case)
    assert "step-00000006" in chosen
    same_as_whole(lives, found, case)


def test_one_changed_digit_is_noticed(lives, damaged):
    problem, _ = damaged["one digit"]["told"]
    assert "manifest.json is damaged" in problem
    same_as_whole(lives, damaged["one digit"], "one digit")


def test_a_crash_while_writing_leaves_the_checkpoints_before_it(lives, damaged):
    found = damaged["crash"]
    assert started_at(found) == 9
    same_as_whole(lives, found, "crash")


def test_without_a_whole_checkpoint_the_run_starts_afresh_and_says_so(lives, damaged):
    *problems, chosen = damaged["all"]["told"]
    assert len(problems) == 2
    assert "starting afresh" in chosen
    same_as_whole(lives, damaged["all"], "all")


def same_as_whole(lives, found, case):
    whole = lives.result(f"{SETTING}-1-whole")["run"]
    assert found["outcome"]["selection"] == whole["outcome"]["selection"]
    assert lives.weights(f"damaged/{case}") == lives.weights(f"{SETTING}-1-whole")
    # What was damaged is written again, and nothing else is left.
    assert found["left"] == ["step-00000006", NEWEST] or case == "crash"


@pytest.mark.parametrize("case", REFUSED)
def test_a_checkpoint_of_another_run_is_refused_and_kept(damaged, case):
    error = damaged[case]["error"]
    assert NEWEST in error
    for part in REFUSED[case]["says"]:
        assert part in error
    assert "give another --out folder, or delete the checkpoints" in error
    assert damaged[case]["left"] == ["step-00000006", NEWEST]


def test_every_rank_refuses(lives):
    assert lives.codes("damaged-2") == [0, 0], lives.log("damaged-2")
    one, other = (lives.result("damaged-2", rank)["rate"]["error"] for rank in (0, 1))
    assert one == other
    assert "training.learning_rate" in one
    assert started_at(lives.result("damaged-2")["truncated"]) == 6


def test_the_base_is_scored_as_it_was_before_training(damaged, one_rank):
    """What is evaluated may change; what was trained so far is no base for comparisons."""
    found = damaged["evaluation"]
    assert started_at(found) == 9
    for metric in ("general/questions", "general/texts", "task/answers"):
        base = one_rank.outcome("never")["base"][metric]
        assert found["outcome"]["base"][metric] == pytest.approx(base, rel=1e-6)
    assert found["outcome"]["values"]["general/texts"] != found["outcome"]["base"]["general/texts"]
