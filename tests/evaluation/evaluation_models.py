"""Tiny random models, a small real tokenizer and data files for the tests of evaluation."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from hft_ray.config import EvaluationSection, LmEval

PLAIN = (
    "the capital of France is Paris and Rome lies in Italy while gold has symbol Au "
    "rivers run down to seas that no ship could ever sail in winter or in summer"
)
WORDS = PLAIN.split()
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def sentence(rng: random.Random, low: int, high: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))


def make_tokenizer(*, bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with merges; puts <s> before plain text if ``bos``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([PLAIN] * 4, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=CHAT,
    )


def make_model(kind: str) -> Any:
    """A random model whose logits are far apart, so that rounding does not decide anything."""
    torch.manual_seed(5)
    if kind == "llama":
        config = LlamaConfig(
            vocab_size=320,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=96,
            initializer_range=0.4,
            bos_token_id=0,
            eos_token_id=1,
        )
        return LlamaForCausalLM(config).eval()
    config = GPT2Config(
        vocab_size=320,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=96,
        initializer_range=0.4,
        bos_token_id=0,
        eos_token_id=1,
    )
    return GPT2LMHeadModel(config).eval()


def make_pair(kind: str) -> tuple[Any, PreTrainedTokenizerFast]:
    """A model and its tokenizer: Llama's puts a beginning-of-sequence token, GPT-2's none."""
    return make_model(kind), make_tokenizer(bos=kind == "llama")


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def greedy(model: Any, ids: list[int], count: int, ends: tuple[int, ...] = (1,)) -> list[int]:
    """Greedy decoding of one prompt, one token at a time, without a cache."""
    new: list[int] = []
    with torch.no_grad():
        while len(new) < count:
            token = int(model(torch.tensor([ids + new])).logits[0, -1].argmax())
            if token in ends:
                break
            new.append(token)
    return new


def hf_loss(model: Any, ids: list[int]) -> float:
    """transformers' own mean loss over the predicted tokens."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        return float(model(input_ids=tokens, labels=tokens).loss)


def make_section(
    folder: Path, model: Any, tokenizer: Any, batch_size: int = 32
) -> EvaluationSection:
    """All kinds of evaluations with odd numbers of items; the model gets about half right."""
    rng = random.Random(3)
    texts = [{"text": sentence(rng, 2, 20)} for _ in range(11)]
    questions = []
    for _ in range(13):
        choices = [sentence(rng, 1, 4) for _ in range(rng.randint(2, 4))]
        answer = rng.randrange(len(choices))
        questions.append({"question": sentence(rng, 2, 9), "choices": choices, "answer": answer})
    prompts = []
    for index in range(9):
        prompt = sentence(rng, 2, 9)
        own = tokenizer.decode(greedy(model, tokenizer(prompt).input_ids, 6)).partition("\n")[0]
        known = index % 2 == 0 and own.strip()
        prompts.append({"prompt": prompt, "answer": own.strip() if known else "not that"})
    text = write_jsonl(folder / "texts.jsonl", texts)
    return EvaluationSection.model_validate(
        {
            "batch_size": batch_size,
            "task": [
                {
                    "name": "prompts",
                    "kind": "generation",
                    "data": write_jsonl(folder / "prompts.jsonl", prompts),
                    "max_new_tokens": 6,
                },
                {
                    "name": "shown",
                    "kind": "generation",
                    "data": str(folder / "prompts.jsonl"),
                    "metric": "edit_similarity",
                    "shots": 2,
                    "chat": True,
                    "max_new_tokens": 4,
                },
            ],
            "general": [
                {"name": "texts", "kind": "perplexity", "data": text},
                {"name": "windows", "kind": "perplexity", "data": text, "max_length": 8},
                {
                    "name": "questions",
                    "kind": "multiple_choice",
                    "data": write_jsonl(folder / "questions.jsonl", questions),
                },
                {"name": "moved", "kind": "kl", "data": str(folder / "prompts.jsonl")},
            ],
        }
    )


def moved(model: Any) -> Any:
    """A copy of ``model`` with other weights, the same in every process."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return other


def with_tasks(folder: Path, section: EvaluationSection) -> EvaluationSection:
    """``section`` and two local tasks of lm-eval on its data."""
    common = {"dataset_path": "json", "test_split": "test", "metadata": {"version": 1.0}}
    tasks = {
        "choose": {
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "answer",
            "dataset_kwargs": {"data_files": {"test": str(folder / "questions.jsonl")}},
            "fewshot_split": "test",
            "num_fewshot": 2,
        },
        "roll": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "dataset_kwargs": {"data_files": {"test": str(folder / "texts.jsonl")}},
            "metric_list": [{"metric": "bits_per_byte"}],
        },
    }
    entries = list(section.general)
    for name, task in tasks.items():
        content = common | task | {"task": name}
        (folder / f"{name}.yaml").write_text(json.dumps(content))
        values = {"name": name, "kind": "lm_eval", "task": name, "include_path": str(folder)}
        entries.append(LmEval.model_validate(values))
    return section.model_copy(update={"general": entries})


def with_batch_size(section: EvaluationSection, batch_size: int) -> EvaluationSection:
    return section.model_copy(update={"batch_size": batch_size})
