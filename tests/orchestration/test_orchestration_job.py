"""The tags of a sweep that runs as a Ray job."""

import json

import pytest

from hft_ray.orchestration.job import job_tags

NAME = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def test_id_and_metadata_become_tags_and_the_environment_does_not():
    told = {
        "runtime_env": {"env_vars": {"HF_TOKEN": "hf_secret"}},
        "metadata": {"job_submission_id": "raysubmit_1", "job_name": "raysubmit_1", "team": "a"},
    }
    tags = job_tags({NAME: json.dumps(told)})
    assert tags == {"hft_ray.job": "raysubmit_1", "hft_ray.job.team": "a"}


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "{}", '{"metadata": null}', '{"metadata": 1}']
)
def test_without_a_job_there_are_none(text):
    assert job_tags({} if text is None else {NAME: text}) == {}
