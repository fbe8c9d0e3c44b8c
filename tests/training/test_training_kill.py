"""A run that is killed with SIGKILL and goes on is the run that was not killed, to the bit."""

import random
import signal

import pytest
from lives_cases import (
    DEATHS,
    SETTINGS,
    killed_file,
    killing_jobs,
    preparing_job,
    same_to_the_bit,
)

PHASES = ("start", "select", "step", "checkpoint", "write", "between")


@pytest.mark.parametrize(("setting", "ranks"), DEATHS)
def test_a_killed_run_goes_on_to_the_same_bits(lives, setting, ranks):
    (death,) = DEATHS[setting, ranks]
    codes = lives.codes(f"{setting}-{ranks}-0-killed-0")
    assert codes[death["rank"]] == -signal.SIGKILL
    assert all(codes)
    assert same_to_the_bit(lives, ranks, setting, 0) > 0


def stories(setting, ranks):
    """Return where the lives of five runs end: one in each phase, at any moment, on any rank.

    The last one is killed again while it goes on.
    """
    rng = random.Random(f"{setting}-{ranks}")

    def death(phase):
        return {"rank": rng.randrange(ranks), "phase": phase, "at": rng.random()}

    found = [[death(phase)] for phase in PHASES]
    found[-1].append(death("start"))
    return found


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("setting", SETTINGS)
def test_deaths_at_any_moment(jobs, tiny_file, dropout_model, tmp_path, setting, ranks):
    file, deaths = killed_file(tiny_file, dropout_model, setting), stories(setting, ranks)
    wanted = killing_jobs(tmp_path, file, ranks, setting, deaths)
    lives = jobs.run(tmp_path, [preparing_job(tmp_path, file), *wanted])
    for number, story in enumerate(deaths):
        for life, death in enumerate(story):
            codes = lives.codes(f"{setting}-{ranks}-{number}-killed-{life}")
            assert codes[death["rank"]] == -signal.SIGKILL, (death, codes)
        same_to_the_bit(lives, ranks, setting, number)
