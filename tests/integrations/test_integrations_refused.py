"""What a callback cannot do is refused before anything is trained, with the way out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from integration_cases import half, make_trainer
from torch.utils.data import IterableDataset
from transformers import AutoModelForCausalLM

from hft_ray.config import ConfigError, Selection
from hft_ray.integrations.transformers import HalfFineTuningCallback

DISTRIBUTED = Path(__file__).with_name("integrations_worker.py")


@pytest.mark.parametrize(
    ("selection", "path"),
    [
        ({"strategy": "gradient"}, "selection.strategy"),
        ({"strategy": "least_drifted"}, "selection.strategy"),
        ({"on_deselect": "reset"}, "selection.on_deselect"),
    ],
)
def test_a_selection_that_needs_more_than_a_callback_has(selection, path):
    with pytest.raises(ConfigError, match=f"{path}: .*hft-ray train"):
        HalfFineTuningCallback(Selection(**selection))


def test_a_selection_that_is_none():
    with pytest.raises(ConfigError, match=r"ratio: .*less than or equal to 1") as caught:
        HalfFineTuningCallback({"ratio": 2, "granularty": "layer"})
    assert "did you mean 'granularity'?" in str(caught.value)


def test_reentrant_checkpointing(trainer):
    with pytest.raises(ConfigError, match="use_reentrant: must be False"):
        trainer(
            half(),
            activation_checkpointing=True,
            activation_checkpointing_kwargs={"use_reentrant": True},
        )


def test_parameters_frozen_before_the_optimizer_is_made(trainer, tiny_models):
    model = AutoModelForCausalLM.from_pretrained(tiny_models["untied"])
    model.model.layers[1].requires_grad_(False)
    one = trainer(half(), model=model)
    with pytest.raises(ConfigError, match="optimizer: lacks 9 parameters"):
        one.train()
    # What is never drawn may be frozen.
    model = AutoModelForCausalLM.from_pretrained(tiny_models["untied"])
    model.lm_head.requires_grad_(False)
    trainer(half(embeddings="frozen"), model=model, max_steps=1).train()


def test_epochs_of_data_without_a_length(tiny_models, items, tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(items)

        def __getitem__(self, index):
            return items[index]

    make = lambda callback: make_trainer(  # noqa: E731
        tiny_models["untied"], Stream(), tmp_path, callback, max_steps=3
    )
    with pytest.raises(ConfigError, match="data has no length"):
        make(half(reselect="epoch")).train()
    assert make(half(reselect=2)).train().global_step == 3


def test_an_optimizer_that_trains_other_weights_than_the_models(tiny_models, items, tmp_path):
    class Averaging(torch.optim.SGD):
        def eval(self):
            """Schedule-free optimizers swap weights here."""

    one = make_trainer(tiny_models["untied"], items, tmp_path, half())
    one.optimizer = Averaging(one.model.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match="optim: must be a torch optimizer"):
        one.train()


@pytest.mark.cluster
def test_two_processes_train_as_one_and_sharded_ones_are_refused(
    trainer, tiny_models, items, tmp_path
):
    """DistributedDataParallel is right with unused parameters found, and refused without."""
    job = tmp_path / "job.pt"
    torch.save({"model": tiny_models["untied"], "items": items, "out": str(tmp_path)}, job)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", str(DISTRIBUTED), str(job)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1)]
    one = trainer(half("keep_selected"), per_device_train_batch_size=8)
    one.train()
    alone = {name: each.detach() for name, each in one.model.named_parameters()}
    for result in results:
        assert result["moved"] == result["drawn"]
        for name, weight in result["weights"].items():
            assert torch.equal(weight, results[0]["weights"][name])
            assert torch.allclose(weight, alone[name], atol=1e-4)
        assert "must be True with several processes" in result["refused"]["unused"]
        for kind in ("deepspeed", "fsdp"):
            assert f"{kind}: sharded parameters" in result["refused"][kind]
            assert "hft-ray train" in result["refused"][kind]
