"""A run that is killed with SIGKILL and goes on is the run that was not killed, to the bit."""

import random
import shutil
import signal

import pytest
from lives_cases import SETTINGS, killed_file, killing_jobs, same_to_the_bit, start_lives

PHASES = ("start", "select", "step", "checkpoint", "between")
SHORT = {
    ("gradient-carry", 1): [[{"rank": 0, "phase": "checkpoint", "at": 0.6}]],
    ("cyclic-store", 2): [[{"rank": 1, "phase": "select", "at": 0.9}]],
    ("drift-reset", 1): [[{"rank": 0, "phase": "step", "at": 0.75}]],
}
POINTS = 10


@pytest.fixture(scope="session")
def dropout_model(tiny_models, tmp_path_factory) -> str:
    """The tiny model with dropout, whose course depends on the random state."""
    folder = tmp_path_factory.mktemp("dropout") / "model"
    shutil.copytree(tiny_models["untied"], folder)
    config = (folder / "config.json").read_text()
    assert '"attention_dropout": 0.0' in config
    changed = config.replace('"attention_dropout": 0.0', '"attention_dropout": 0.1')
    (folder / "config.json").write_text(changed)
    return str(folder)


@pytest.fixture(scope="module")
def killed(tiny_file, dropout_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    jobs = []
    for (setting, ranks), deaths in SHORT.items():
        file = killed_file(tiny_file, dropout_model, setting)
        jobs += killing_jobs(folder, file, ranks, setting, deaths)
    return start_lives(folder, jobs)


@pytest.mark.parametrize(("setting", "ranks"), SHORT)
def test_a_killed_run_goes_on_to_the_same_bits(killed, setting, ranks):
    death = SHORT[setting, ranks][0][0]
    codes = killed.codes(f"{setting}-{ranks}-0-killed-0")
    assert codes[death["rank"]] == -signal.SIGKILL
    assert all(codes)
    assert same_to_the_bit(killed, ranks, setting, 0) > 0


def stories(seed):
    """Return where the lives of ``POINTS`` runs end: all phases, any moment, any rank; one of them
    is killed again while it goes on."""
    rng = random.Random(seed)
    found = []
    for point in range(POINTS):
        phase = PHASES[point % len(PHASES)]
        found.append([{"phase": phase, "at": rng.random()}])
    found[-1].append({"phase": "start", "at": rng.random()})
    return [[death | {"draw": rng.random()} for death in story] for story in found]


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("setting", SETTINGS)
def test_ten_deaths_at_any_moment(tiny_file, dropout_model, tmp_path, setting, ranks):
    file = killed_file(tiny_file, dropout_model, setting)
    deaths = [
        [{"rank": int(each.pop("draw") * ranks), **each} for each in story]
        for story in stories(f"{setting}-{ranks}")
    ]
    lives = start_lives(tmp_path, killing_jobs(tmp_path, file, ranks, setting, deaths), 1100)
    for number, story in enumerate(deaths):
        for life, death in enumerate(story):
            codes = lives.codes(f"{setting}-{ranks}-{number}-killed-{life}")
            assert codes[death["rank"]] == -signal.SIGKILL, (death, codes)
        same_to_the_bit(lives, ranks, setting, number)
