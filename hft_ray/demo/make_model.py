"""Make the demo's language model: a small Llama that knows ``data/facts.jsonl`` by heart.

``python -m hft_ray.demo.make_model --out DIR`` trains it from nothing on two CPU cores in a few
minutes, asks it every fact, and writes a Hugging Face directory. The same seed, threads and
versions give the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

DATA = Path(__file__).parent / "data"
EOS, PAD = "<eos>", "<pad>"
VOCABULARY = 512
IGNORED = -100  # label that cross_entropy leaves out
ENOUGH = 0.97  # share of the facts that a usable model answers to the letter

# A user's turn is the prompt, the assistant's the answer after a space, as in the data files.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
)


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer learned from ``texts``; no text is unknown to it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Return an untrained Llama of about 0.9M parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def read_facts(name: str) -> list[tuple[str, str]]:
    """Return (prompt, completion) of every fact of a data file."""
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["prompt"], record["completion"]) for record in records]


def padded(sequences: list[list[int]], value: int) -> torch.Tensor:
    """Return ``sequences`` as one (number, longest) tensor, filled up on the right."""
    rows = [torch.tensor(sequence) for sequence in sequences]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def batches(rows: list[list[int]], size: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield (size, longest) token numbers for ever, each pass in a new order."""
    order = random.Random(seed)
    while True:
        shuffled = order.sample(rows, len(rows))
        for start in range(0, len(rows) - size + 1, size):
            yield padded(shuffled[start : start + size], IGNORED)


def language_loss(model: LlamaForCausalLM, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of every next token of ``labels``, padding left out.

    Padding is on the right, behind all that a causal model sees, so it needs no attention mask.
    """
    logits = model(labels.clamp(min=0), use_cache=False).logits
    return functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    facts: list[tuple[str, str]],
    *,
    steps: int,
    seed: int,
    batch_size: int = 94,
    learning_rate: float = 3e-3,
) -> None:
    """Train all of ``model`` on ``facts`` with AdamW, a warm-up and a cosine schedule."""
    rows = [tokenizer(prompt + completion + EOS)["input_ids"] for prompt, completion in facts]
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.0)
    warmup = steps // 20
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    model.train()
    for step, labels in zip(range(steps), batches(rows, batch_size, seed), strict=False):
        loss = language_loss(model, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} of {steps}: loss {loss.item():.4f}", flush=True)


@torch.no_grad()
def known_share(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, facts: list[tuple[str, str]]
) -> float:
    """Return the share of ``facts`` whose greedy continuation is the completion to the letter.

    A greedy continuation equals the completion exactly when each of its tokens (the end included)
    is the likeliest one after those before it, so one forward pass decides.
    """
    model.eval()
    prompts = [tokenizer(prompt)["input_ids"] for prompt, _ in facts]
    answers = [tokenizer(completion + EOS)["input_ids"] for _, completion in facts]
    tokens = padded([p + a for p, a in zip(prompts, answers, strict=True)], 0)
    labels = padded(
        [[IGNORED] * len(p) + a for p, a in zip(prompts, answers, strict=True)], IGNORED
    )[:, 1:]
    likeliest = model(tokens).logits[:, :-1].argmax(-1)
    right = ((likeliest == labels) | (labels == IGNORED)).all(-1)
    return right.float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the demo's language model.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    facts = read_facts("facts.jsonl")
    # The words of the task's questions too, as in any real vocabulary; not its answers.
    questions = [prompt for prompt, _ in read_facts("task_train.jsonl")]
    tokenizer = make_tokenizer([*(prompt + completion for prompt, completion in facts), *questions])
    model = make_model(tokenizer, arguments.seed)
    start = time.perf_counter()
    train(model, tokenizer, facts, steps=arguments.steps, seed=arguments.seed)
    share = known_share(model, tokenizer, facts)
    size = sum(parameter.numel() for parameter in model.parameters())
    seconds = time.perf_counter() - start
    print(f"{size} parameters know {share:.1%} of {len(facts)} facts after {seconds:.0f} s")
    if share < ENOUGH:
        raise SystemExit(f"that is less than {ENOUGH:.0%}: nothing written; give more --steps")
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
