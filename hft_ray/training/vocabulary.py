"""Whether what a model will read lies within it: ids in its embedding, places in its positions.

A token id without a row, or a place without a position, ends a run on a CPU with an index error and
on a GPU with an assertion on the device. Tokens that the tokenizer knows and nothing uses do no
harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch import nn

from hft_ray.config import Config, ConfigError, Evaluation, Generation, LmEval, Problem
from hft_ray.config.keys import searched_values, with_settings
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.data import TrainingSet, locate
from hft_ray.evaluation import context_length, make_scorer
from hft_ray.training.workspace import Workspace

_MOST = 3


def rows_of(shape: nn.Module) -> int:
    """Return how many token ids a model can both read and predict."""
    model: Any = shape
    parts = [model.get_input_embeddings(), model.get_output_embeddings()]
    return min(int(part.weight.shape[0]) for part in parts if part is not None)


def data_problems(config: Config, workspace: Workspace) -> Iterator[Problem]:
    """Yield what training data has that the model has no room for; encodes the data."""
    for arm in _models(config):
        shape = workspace.shape(arm.model)
        limit = context_length(shape)
        for length in searched_values(arm, "data.max_length"):
            if length == arm.data.max_length:
                yield from _set_problems(arm, workspace, shape)
            elif limit is not None and length > limit:
                one = with_settings(arm, {"data.max_length": length})
                yield from _set_problems(one, workspace, shape)


def _models(config: Config) -> Iterator[Config]:
    """Yield FILE of each arm with each of its models; of searched ones those that are here."""
    for arm in by_arm(config).values():
        for name in searched_values(arm, "model.name"):
            if name == arm.model.name:
                yield arm
            elif locate(name, "model.name") is not None:
                yield with_settings(arm, {"model.name": name})


def _set_problems(config: Config, workspace: Workspace, shape: nn.Module) -> Iterator[Problem]:
    tokenizer, rows = workspace.tokenizer(config.model), rows_of(shape)
    limit = context_length(shape)
    for path, (name, length, tokens) in _sets(config, workspace).items():
        if _knows_more(tokenizer, rows):
            message = _beyond(tokenizer, [tokens.input_ids], rows)
            if message is not None:
                yield Problem(path, message, name)
        longest = int(tokens.lengths.max()) if limit is not None and length > limit else 0
        if limit is not None and longest > limit:
            message = (
                f"the longest example has {longest} tokens, but the model has {limit} positions; "
                f"set it to {limit} at most, or, for rotary positions that are to be extended, "
                "raise max_position_embeddings in config.json"
            )
            yield Problem("data.max_length", message, length)


def _sets(config: Config, workspace: Workspace) -> dict[str, tuple[str, int, TrainingSet]]:
    """Return the encoded data of each setting that names some: its name, max_length, tokens."""
    found = {}
    model = config.model
    for path, data in config.training_data.items():
        (tokens,) = workspace.training_sets(model, {path: data})
        found[path] = (data.train, data.max_length, tokens)
    for path, data in config.pair_data.items():
        pairs = workspace.pair_set(model, path, data)
        found[path] = (data.train, data.max_length, pairs.sequences)
    return found


def evaluation_problems(
    evaluations: Iterable[tuple[str, Evaluation]], tokenizer: Any, shape: nn.Module
) -> Iterator[Problem]:
    """Yield what evaluations read, or ask for, that the model has no room for.

    Args:
        evaluations: Place in FILE, section; their data has been checked.
        tokenizer: The model's tokenizer.
        shape: The model, which may be on the meta device.
    """
    rows, limit = rows_of(shape), context_length(shape)
    for path, item in evaluations:
        new = item.max_new_tokens if isinstance(item, Generation) else 0
        if limit is not None and new >= limit:
            message = f"leaves no room for a prompt: the model has {limit} positions"
            yield Problem(f"{path}.max_new_tokens", message, new)
        # Scorers that cut to the positions need no check.
        most = getattr(item, "max_length", None) if item.kind in ("kl", "preference") else None
        long = most is not None and limit is not None and most > limit
        if not long and not _knows_more(tokenizer, rows):
            continue
        try:
            sequences = make_scorer(item, tokenizer, path).sequences()
        except ConfigError as error:
            yield from error.problems
            continue
        message_ids = _beyond(tokenizer, sequences, rows)
        if message_ids is not None:
            place = f"{path}.task" if isinstance(item, LmEval) else f"{path}.data"
            yield Problem(place, message_ids)
        if long and any(len(each) > (limit or 0) + 1 for each in sequences):
            message = f"is more than the {limit} positions of the model"
            yield Problem(f"{path}.max_length", message, most)


def _knows_more(tokenizer: Any, rows: int) -> bool:
    return max(tokenizer.get_vocab().values(), default=0) >= rows


def _beyond(tokenizer: Any, sequences: Iterable[Any], rows: int) -> str | None:
    """Return what is wrong if a sequence has an id from ``rows`` on; None if none has."""
    used: set[int] = set()
    for each in sequences:
        ids = np.asarray(each)
        used.update(np.unique(ids[ids >= rows]).tolist())
    if not used:
        return None
    first = sorted(used)[:_MOST]
    named = [f"{tokenizer.convert_ids_to_tokens(each)!r} (id {each})" for each in first]
    more = f" and {len(used) - len(first)} more" if len(used) > len(first) else ""
    return (
        f"holds tokens beyond the model's {rows} embeddings: {', '.join(named)}{more}; give the "
        "model the tokenizer that it was trained with, or room for the new tokens: "
        "model.resize_token_embeddings(len(tokenizer)), then save_pretrained()"
    )
