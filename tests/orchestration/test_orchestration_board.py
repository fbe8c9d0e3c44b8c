"""The board's rules, without Ray: who runs what, what is tried again, how every trial ends."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from hft_ray.orchestration.board import Board

DONE = {"state": "complete"}


def make_board(groups=1, retries=2, size=1):
    """A board whose groups ``0, 1, ...`` have joined as ``g0, g1, ...``."""
    board = Board(groups, retries)
    for number in range(groups):
        board.join(number, f"g{number}", size)
    return board


def kinds(board, trial=None):
    return [e["event"] for e in board.events if trial is None or e["trial"] == trial]


def finished(board):
    return {trial: job.outcome for trial, job in board.jobs.items() if job.outcome is not None}


def ends(board, trial):
    return sum("outcome" in result for result in board.jobs[trial].results)


def run(board, trial, incarnation="g0", group=0, step=10, value=0.5):
    """Report once and finish the trial that the group has."""
    board.report(incarnation, group, trial, step, {"task/score": value}, True)
    board.finish(incarnation, group, 0, trial, DONE)


def test_trials_are_handed_out_in_their_order():
    board = make_board(groups=2)
    for trial in ("a", "b", "c"):
        board.submit(trial, "trial", {"training.seed": trial})
    first, second = board.order_for(0, "g0", 0), board.order_for(1, "g1", 0)
    assert (first.trial, second.trial) == ("a", "b")
    assert first.settings == {"training.seed": "a"}
    assert board.order_for(0, "g0", first.number) is None, "its own trial is not done"
    run(board, "b", "g1", 1)
    third = board.order_for(1, "g1", second.number)
    assert third.trial == "c"
    assert first.number < second.number < third.number


def test_an_idle_group_gets_nothing_while_nothing_waits():
    assert make_board().order_for(0, "g0", 0) is None


def test_every_rank_sees_each_order_once():
    board = make_board(size=2)
    board.submit("a", "trial", {})
    board.submit("b", "trial", {})
    ranks = [board.order_for(0, "g0", 0) for _ in range(2)]
    assert ranks[0] == ranks[1]
    number = ranks[0].number
    board.finish("g0", 0, 0, "a", DONE)
    assert board.order_for(0, "g0", number) is None, "rank 1 is still in trial a"
    board.finish("g0", 0, 0, "a", DONE)
    assert board.order_for(0, "g0", number) is None, "rank 0 twice is not both ranks"
    board.finish("g0", 0, 1, "a", DONE)
    assert board.order_for(0, "g0", number).trial == "b"


def test_a_trial_ends_with_its_last_scores():
    board = make_board()
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    board.report("g0", 0, "a", 10, {"train/loss": 2.0}, False)
    board.report("g0", 0, "a", 20, {"task/score": 0.5, "train/loss": 1.0}, True)
    board.report("g0", 0, "a", 30, {"train/loss": 0.5}, False)
    board.finish("g0", 0, 0, "a", {"state": "complete", "seconds": 3.0})
    end = finished(board)["a"]
    assert (end["step"], end["values"]["task/score"], end["seconds"]) == (20, 0.5, 3.0)
    assert kinds(board, "a") == ["submitted", "started", "report", "report", "report"]


def test_results_are_the_scored_reports_and_then_the_end():
    board = make_board()
    board.submit("a", "trial", {})
    assert board.result_after("a", 0) is None
    board.order_for(0, "g0", 0)
    board.report("g0", 0, "a", 5, {"train/loss": 1.0}, False)
    assert board.result_after("a", 0) is None, "a loss alone is no result"
    board.report("g0", 0, "a", 10, {"task/score": 0.1}, True)
    board.finish("g0", 0, 0, "a", DONE)
    values = {"task/score": 0.1}
    assert board.result_after("a", 0) == {"step": 10, "values": values, "last": False}
    assert board.result_after("a", 1)["outcome"]["state"] == "complete"
    assert board.result_after("a", 2) is None


def test_a_died_group_tries_its_trial_again_before_all_others():
    board = make_board()
    board.submit("a", "trial", {})
    board.submit("b", "trial", {})
    first = board.order_for(0, "g0", 0)
    board.join(0, "second life", 1)
    again = board.order_for(0, "second life", 0)
    assert again.trial == "a"
    assert again.number > first.number
    assert kinds(board, "a") == ["submitted", "started", "retried", "started"]
    assert board.events[-1]["attempt"] == 2


def test_joining_again_in_the_same_life_changes_nothing():
    board = make_board(size=2)
    board.submit("a", "trial", {})
    order = board.order_for(0, "g0", 0)
    board.join(0, "g0", 2)
    assert board.order_for(0, "g0", 0) == order
    assert "retried" not in kinds(board)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_trial_fails_when_its_retries_are_used_up(retries):
    board = make_board(retries=retries)
    board.submit("a", "trial", {})
    board.submit("b", "trial", {})
    for life in range(retries + 1):
        assert board.order_for(0, f"life {life}" if life else "g0", 0).trial == "a"
        board.join(0, f"life {life + 1}", 1)
    end = finished(board)["a"]
    assert end["state"] == "failed"
    times = "1 time" if retries == 0 else f"{retries + 1} times"
    assert end["reason"] == f"a worker process died ({times})"
    assert board.order_for(0, f"life {retries + 1}", 0).trial == "b"


def test_what_a_trial_was_scored_before_it_failed_is_kept():
    board = make_board(retries=0)
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    board.report("g0", 0, "a", 10, {"task/score": 0.3}, True)
    board.join(0, "new", 1)
    assert finished(board)["a"]["values"] == {"task/score": 0.3}
    assert finished(board)["a"]["step"] == 10


def test_a_trial_that_ended_before_its_group_died_is_not_tried_again():
    board = make_board(size=2)
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    board.finish("g0", 0, 1, "a", {"state": "failed", "reason": "it raised"})
    assert finished(board)["a"]["reason"] == "it raised"
    board.join(0, "new", 2)
    assert board.order_for(0, "new", 0) is None
    assert ends(board, "a") == 1


def test_the_first_failure_of_any_rank_is_the_trials_end():
    board = make_board(size=2)
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    board.finish("g0", 0, 1, "a", {"state": "failed", "reason": "rank 1"})
    board.finish("g0", 0, 0, "a", {"state": "failed", "reason": "rank 0"})
    assert finished(board)["a"]["reason"] == "rank 1"
    assert ends(board, "a") == 1


def test_other_ranks_successes_wait_for_rank_0():
    board = make_board(size=2)
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    board.finish("g0", 0, 1, "a", {"state": "complete", "seconds": 1})
    assert not finished(board)
    board.finish("g0", 0, 0, "a", {"state": "complete", "seconds": 2})
    assert finished(board)["a"]["seconds"] == 2


def test_what_a_dead_life_still_says_is_not_heard():
    board = make_board()
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    board.join(0, "new", 1)
    events = len(board.events)
    assert board.report("g0", 0, "a", 10, {"task/score": 1.0}, True), "it is told to stop"
    board.finish("g0", 0, 0, "a", DONE)
    assert board.order_for(0, "g0", 0) is None
    assert len(board.events) == events
    assert board.order_for(0, "new", 0).trial == "a"


def test_results_are_not_repeated_after_a_retry():
    board = make_board()
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    for step in (10, 20):
        board.report("g0", 0, "a", step, {"task/score": step / 100}, True)
    board.join(0, "new", 1)
    board.order_for(0, "new", 0)
    for step in (10, 20, 30):
        board.report("new", 0, "a", step, {"task/score": step / 100}, True)
    board.finish("new", 0, 0, "a", DONE)
    steps = [board.result_after("a", index)["step"] for index in range(4)]
    assert steps == [10, 20, 30, 30]
    assert board.result_after("a", 4) is None


def test_a_waiting_trial_is_stopped_at_once():
    board = make_board()
    board.submit("a", "trial", {})
    board.submit("b", "trial", {})
    board.stop("a")
    assert finished(board)["a"]["state"] == "stopped"
    assert board.order_for(0, "g0", 0).trial == "b"


def test_a_running_trial_is_asked_to_stop_at_its_next_report():
    board = make_board()
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    assert not board.report("g0", 0, "a", 10, {"task/score": 0.1}, True)
    board.stop("a")
    assert not finished(board)
    assert board.report("g0", 0, "a", 20, {"task/score": 0.2}, True)
    board.finish("g0", 0, 0, "a", {"state": "stopped"})
    assert finished(board)["a"]["state"] == "stopped"
    assert finished(board)["a"]["step"] == 20


def test_a_trial_that_was_to_stop_is_not_tried_again():
    board = make_board()
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    board.stop("a")
    board.join(0, "new", 1)
    assert finished(board)["a"]["state"] == "stopped"
    assert board.order_for(0, "new", 0) is None


def test_stopping_what_has_ended_or_never_was_changes_nothing():
    board = make_board()
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    run(board, "a")
    events = list(board.events)
    board.stop("a")
    board.stop("unknown")
    assert board.events == events


def test_a_trial_that_is_submitted_again_goes_on():
    board = make_board()
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    events = list(board.events)
    board.submit("a", "trial", {})
    assert board.events == events
    assert not board.queue
    assert not board.report("g0", 0, "a", 10, {"task/score": 0.1}, True)


@pytest.mark.parametrize("state", ["queued", "running", "ended"])
def test_a_released_trial_is_gone_and_its_group_takes_the_next(state):
    """Tune may end a trial that is still trained: its side of the trial can die."""
    board = make_board()
    board.submit("a", "trial", {})
    if state != "queued":
        board.order_for(0, "g0", 0)
    if state == "ended":
        run(board, "a")
    board.release("a")
    events = list(board.events)
    board.stop("a")
    board.submit("a", "trial", {})
    if state == "running":
        assert board.report("g0", 0, "a", 10, {"task/score": 0.1}, True)
        board.finish("g0", 0, 0, "a", {"state": "stopped"})
    assert board.events == events
    assert not board.jobs
    board.submit("b", "trial", {})
    assert board.order_for(0, "g0", 0).trial == "b"


def test_a_released_trial_is_not_tried_again():
    board = make_board()
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    board.release("a")
    board.join(0, "new", 1)
    assert board.order_for(0, "new", 0) is None
    assert "retried" not in kinds(board)


def test_a_lost_group_leaves_its_trial_to_the_others():
    board = make_board(groups=2)
    board.submit("a", "trial", {})
    order = board.order_for(0, "g0", 0)
    board.lose(0, "no such node")
    assert board.order_for(0, "g0", order.number) is None
    assert board.order_for(1, "g1", 0).trial == "a"
    run(board, "a", "g1", 1)
    assert finished(board)["a"]["state"] == "complete"


def test_a_group_that_finds_no_room_leaves_its_trial_to_the_others_and_may_come_back():
    board = make_board(groups=2)
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    board.wait_for_room(0)
    board.wait_for_room(0)
    assert board.order_for(1, "g1", 0).trial == "a"
    # It was a crash, and it counts once.
    assert [e["fault"] for e in board.events if e["event"] == "retried"] == ["worker_crash"]
    board.join(0, "again", 1)
    board.submit("b", "trial", {})
    assert board.order_for(0, "again", 0).trial == "b"


def test_with_the_last_group_lost_nothing_waits_for_ever():
    board = make_board(groups=2)
    for trial in ("a", "b", "c"):
        board.submit(trial, "trial", {})
    board.order_for(0, "g0", 0)
    board.lose(1, "out of memory")
    assert not finished(board)
    board.lose(0, "out of memory")
    board.submit("late", "trial", {})
    ends = finished(board)
    assert sorted(ends) == ["a", "b", "c", "late"]
    assert all(end["state"] == "failed" for end in ends.values())
    assert all("no worker group is left" in end["reason"] for end in ends.values())
    assert "out of memory" in ends["b"]["reason"]


@pytest.mark.parametrize("asked", [False, True])
def test_the_end_tells_that_the_last_step_was_made_whatever_came_after(asked):
    board = make_board(retries=1)
    board.submit("a", "trial", {})
    board.order_for(0, "g0", 0)
    board.report("g0", 0, "a", 10, {"task/score": 0.1}, True)
    if asked:
        board.stop("a")
    board.report("g0", 0, "a", 20, {"task/score": 0.2}, True, True)
    board.join(0, "new", 1)
    if not asked:
        # It repeats steps from a checkpoint, and dies in the midst of them.
        board.order_for(0, "new", 0)
        board.report("new", 0, "a", 10, {"task/score": 0.1}, True)
        board.join(0, "newer", 1)
    end = finished(board)["a"]
    assert end["state"] == ("stopped" if asked else "failed")
    assert (end["last"], end["step"], end["values"]) == (True, 20, {"task/score": 0.2})


def test_a_trial_that_was_cut_off_before_its_last_step_tells_so():
    board = make_board(retries=0)
    for trial in ("a", "b"):
        board.submit(trial, "trial", {})
    board.order_for(0, "g0", 0)
    board.report("g0", 0, "a", 10, {"task/score": 0.1}, True)
    board.join(0, "new", 1)
    board.stop("b")
    assert [finished(board)[trial]["last"] for trial in ("a", "b")] == [False, False]


GROUPS, RETRIES, SIZE = 2, 2, 2


class AnySweep(RuleBasedStateMachine):
    """Groups of two ranks take, report, end, crash and get lost in any order."""

    trials = Bundle("trials")

    def __init__(self):
        super().__init__()
        self.board = Board(GROUPS, RETRIES)
        self.lives = 0
        self.life = dict.fromkeys(range(GROUPS), "")
        self.after = {}
        self.running = {}
        self.lost = set()
        self.step = 0
        for group in range(GROUPS):
            self.join(group)

    @rule(target=trials)
    def submit(self):
        trial = f"t{len(self.board.jobs)}"
        self.board.submit(trial, "trial", {})
        return trial

    @rule(trial=trials)
    def stop(self, trial):
        self.board.stop(trial)

    @precondition(lambda self: len(self.lost) < GROUPS)
    @rule(group=st.integers(0, GROUPS - 1))
    def join(self, group):
        """A group's processes start, for the first time or after a crash."""
        if group in self.lost:
            return
        self.lives += 1
        self.life[group] = f"life {self.lives}"
        for rank in range(SIZE):
            self.board.join(group, self.life[group], SIZE)
            self.after[group, rank] = 0
            self.running[group, rank] = None

    @rule(group=st.integers(0, GROUPS - 1), rank=st.integers(0, SIZE - 1))
    def take(self, group, rank):
        if group in self.lost or self.running[group, rank] is not None:
            return
        order = self.board.order_for(group, self.life[group], self.after[group, rank])
        if order is not None:
            assert order.number > self.after[group, rank]
            self.after[group, rank] = order.number
            self.running[group, rank] = order.trial

    @rule(group=st.integers(0, GROUPS - 1), scored=st.booleans())
    def report(self, group, scored):
        trial = self.running.get((group, 0))
        if group not in self.lost and trial is not None:
            self.step += 1
            job = self.board.jobs[trial]
            told = self.board.report(self.life[group], group, trial, self.step, {}, scored)
            assert told == (job.stop or job.outcome is not None)

    @rule(
        group=st.integers(0, GROUPS - 1),
        rank=st.integers(0, SIZE - 1),
        state=st.sampled_from(["complete", "failed"]),
    )
    def end(self, group, rank, state):
        trial = self.running.get((group, rank))
        if group not in self.lost and trial is not None:
            self.board.finish(self.life[group], group, rank, trial, {"state": state})
            self.running[group, rank] = None

    @rule(group=st.integers(0, GROUPS - 1), trial=trials)
    def a_ghost_speaks(self, group, trial):
        before = len(self.board.events)
        assert self.board.report("ghost", group, trial, 99, {}, True)
        self.board.finish("ghost", group, 0, trial, DONE)
        assert self.board.order_for(group, "ghost", 0) is None
        assert len(self.board.events) == before

    @rule(group=st.integers(0, GROUPS - 1))
    def wait_for_room(self, group):
        if group not in self.lost:
            self.board.wait_for_room(group)
            for rank in range(SIZE):
                self.running[group, rank] = None
            self.life[group] = "none"

    @precondition(lambda self: self.lives > 6)
    @rule(group=st.integers(0, GROUPS - 1))
    def lose(self, group):
        if group not in self.lost:
            self.board.lose(group, "gone")
            self.lost.add(group)
            for rank in range(SIZE):
                self.running[group, rank] = None

    @invariant()
    def no_trial_is_in_two_places(self):
        board = self.board
        held = [g.order.trial for g in board.groups.values() if g.order is not None]
        open_jobs = [t for t in held if board.jobs[t].outcome is None]
        places = open_jobs + list(board.queue)
        assert len(places) == len(set(places))
        # Whatever has not ended is somewhere: it cannot be forgotten.
        assert set(places) == {t for t, job in board.jobs.items() if job.outcome is None}

    @invariant()
    def every_trial_ends_at_most_once(self):
        for trial, job in self.board.jobs.items():
            assert ends(self.board, trial) == (job.outcome is not None)

    @invariant()
    def tries_are_counted(self):
        for trial, job in self.board.jobs.items():
            assert job.attempts == kinds(self.board, trial).count("started") <= RETRIES + 1

    @invariant()
    def results_go_forward_and_end_once(self):
        for job in self.board.jobs.values():
            steps = [result["step"] for result in job.results if "outcome" not in result]
            assert steps == sorted(set(steps))
            ends = [index for index, r in enumerate(job.results) if "outcome" in r]
            assert ends == ([len(job.results) - 1] if job.outcome is not None else [])

    def teardown(self):
        """Whatever happened: once the groups work on, or are lost, every trial ends."""
        for group in set(range(GROUPS)) - self.lost:
            if not self.board.groups[group].incarnation:
                self.join(group)  # there is room again
        for _ in range(10 * len(self.board.jobs) + 10):
            for group in range(GROUPS):
                for rank in range(SIZE):
                    self.end(group, rank, "complete")
                    self.take(group, rank)
        assert all(job.outcome is not None for job in self.board.jobs.values())
        super().teardown()


TestAnySweep = AnySweep.TestCase
TestAnySweep.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
