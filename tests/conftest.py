"""A tiny random Llama with a real tokenizer and data, from which whole runs are made."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from jobs import Jobs

# How long an example takes says more about the machine than about the code.
settings.register_profile("hft-ray", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hft-ray")

# DeepSpeed starts numactl at every reduction of ZeRO-3 to count what it is told here.
os.environ.setdefault("LOCAL_SIZE", "1")

TOGETHER = {
    "engines": ("test_training_leaks", "test_training_memory", "test_training_state"),
    # Importing lm_eval takes 25 seconds.
    "lm_eval": ("test_evaluation_harness", "test_training_checks_evaluation"),
}
"""Name -> files that share what takes long; the others of tests/training share runs."""


LONG = ("training", "orchestration", "cluster_files", "tracking", "cli", "integrations")
"""Folders of tests that take long, which go first: a worker is never left with the longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that take long first."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.parent.name, len(LONG)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal out whole files, and folders whose files share what takes long to make."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = PurePosixPath(nodeid.split("::")[0])
            for name, files in TOGETHER.items():
                if path.stem in files:
                    return name
            if path.parent.name == "training":
                return "runs"
            return str(path.parent if path.parent.name in ("integrations", "weights") else path)

    return Scheduling(config, log)


WORDS = (
    "the capital of France is Paris and Rome lies in Italy while gold has symbol Au "
    "rivers run down to seas that no ship could ever sail in winter or in summer"
)


def save_tiny_model(folder: Path, *, tied: bool = False) -> Path:
    """Save a random Llama of 4 layers with a byte-level BPE tokenizer; return its folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([WORDS] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=320,
                hidden_size=32,
                # Odd sizes: two ranks do not divide them, which ZeRO has to pad.
                intermediate_size=45,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=96,
                initializer_range=0.1,
                bos_token_id=0,
                eos_token_id=1,
                tie_word_embeddings=tied,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_records(path: Path, records: list[dict[str, Any]]) -> str:
    """Write ``records`` as JSONL; return the path as FILE names it."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> dict[str, str]:
    """``untied`` and ``tied``: folders of two tiny models."""
    root = tmp_path_factory.mktemp("models")
    return {
        kind: str(save_tiny_model(root / kind, tied=kind == "tied")) for kind in ("untied", "tied")
    }


@pytest.fixture(scope="session")
def tiny_file(tiny_models, tmp_path_factory) -> dict[str, Any]:
    """The content of a FILE on the tiny model: 20 examples of many lengths, three evaluations."""
    root = tmp_path_factory.mktemp("data")
    rng = random.Random(7)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choice(WORDS.split()) for _ in range(rng.randint(low, high)))

    train = [{"prompt": text(1, 9), "completion": " " + text(1, 9)} for _ in range(20)]
    prompts = [{"prompt": each["prompt"], "answer": each["completion"][1:]} for each in train[:6]]
    # Of the unit of the texts, so that they have a mean.
    questions = [{"text": f"{text(3, 9)} ?"} for _ in range(5)]
    data = {
        "prompts": write_records(root / "prompts.jsonl", prompts),
        "questions": write_records(root / "questions.jsonl", questions),
        "texts": write_records(root / "texts.jsonl", [{"text": text(3, 20)} for _ in range(5)]),
    }
    return {
        "name": "tiny",
        "model": tiny_models["untied"],
        "data": {"train": write_records(root / "train.jsonl", train), "max_length": 48},
        "training": {
            "steps": 4,
            "learning_rate": 3e-3,
            "batch_size": 8,
            "zero_stage": 0,
            "precision": "fp32",
            "weight_decay": 0.1,
            "schedule": "constant",
            "warmup": 0.0,
            "log_every": 1,
        },
        "evaluation": {
            "task": [
                {
                    "name": "answers",
                    "kind": "generation",
                    "data": data["prompts"],
                    "max_new_tokens": 4,
                }
            ],
            "general": [
                {"name": "texts", "kind": "perplexity", "data": data["texts"]},
                {"name": "questions", "kind": "perplexity", "data": data["questions"]},
            ],
        },
    }


@pytest.fixture(scope="session")
def jobs(tmp_path_factory) -> Iterator[Jobs]:
    """What forks the processes of jobs."""
    made = Jobs(tmp_path_factory.mktemp("jobs"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory) -> Path:
    """A store of MLflow, to be copied into a storage root: making one takes seven seconds."""
    from hft_ray.tracking import tracking_uri
    from hft_ray.tracking.environment import open_client

    root = tmp_path_factory.mktemp("store")
    open_client(tracking_uri(None, root))
    return root / "mlflow.db"
