"""What a base cannot do has no retention: told, and refused where FILE asks for it."""

import pytest

from hft_ray.config import Config, ConfigError
from hft_ray.evaluation import Score, Scores
from hft_ray.training.scoring import refuse_unable, tell_unable

GUESSING = Score.of("accuracy", [1.0, 0.0, 0.0, 0.0], worst=0.0, chance=0.25)
LOSS = Score.of("cross_entropy", [2.0, 3.0], worst=9.0)


def config(tiny_file, objective, **search):
    search = {"space": {"selection.ratio": [0.5]}, "objectives": {objective: "max"}, **search}
    return Config.model_validate(tiny_file | {"search": search})


def test_the_retention_of_what_the_base_guesses_is_refused(tiny_file):
    both = Scores({}, {"qa": GUESSING, "lm": LOSS})
    refuse_unable(config(tiny_file, "retention/mean"), both)
    refuse_unable(config(tiny_file, "retention/lm"), both)
    with pytest.raises(ConfigError, match=r"objectives\.retention/qa: is not defined: the base is"):
        refuse_unable(config(tiny_file, "retention/qa"), both)
    bound = {"constraints": ["retention/qa >= 0.9"]}
    with pytest.raises(ConfigError, match=r"search\.constraints\.0: is not defined"):
        refuse_unable(config(tiny_file, "retention/lm", **bound), both)
    with pytest.raises(ConfigError, match=r"objectives\.retention/mean: is not defined"):
        refuse_unable(config(tiny_file, "retention/mean"), Scores({}, {"qa": GUESSING}))


def test_it_is_told(caplog):
    tell_unable(Scores({}, {"qa": GUESSING, "lm": LOSS}))
    (record,) = caplog.records
    assert "retention/qa is left out: the base scores 0.25 and a guess 0.25" in record.getMessage()
