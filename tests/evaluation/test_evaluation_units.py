"""Which scores can be averaged."""

import pytest

from hft_ray.config import EvaluationSection
from hft_ray.config.sections.suites import suite_names
from hft_ray.evaluation import averageable, mixed_units, unit
from hft_ray.evaluation.units import NATS, SHARE


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", SHARE),
        ("sari", SHARE),
        ("logprob_accuracy", SHARE),
        ("acc_norm", SHARE),
        ("prompt_level_strict_acc", SHARE),
        ("pass@1", SHARE),
        ("cross_entropy", NATS),
        ("kl", NATS),
        ("reward_margin", "nats per pair"),
        ("bleu", "bleu"),
        ("byte_perplexity", "byte_perplexity"),
    ],
)
def test_units(metric, expected):
    assert unit(metric) == expected


@pytest.mark.parametrize("suite", suite_names())
def test_suites_of_one_unit_have_means(suite):
    section = EvaluationSection.model_validate({"general": [suite]})
    mixed = suite in ("common-knowledge", "smollm2-general", "broad-knowledge")
    assert averageable(section.general) is not mixed
    for metric in ("general/score", "forgetting/mean", "continual/general"):
        assert (mixed_units(section, metric) is not None) is mixed
    for metric in ("retention/mean", "task/score", "general/knowledge"):
        assert mixed_units(section, metric) is None
