"""What becomes of every field of a record: used, known to be harmless, or refused by name.

``docs/data.md`` has the same tables, which a test compares with these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from hft_ray.config import ConfigError, Problem
from hft_ray.data.problems import Problems
from hft_ray.data.records import TURN_LISTS, Record, Records

T = TypeVar("T")

_TEMPLATE = ("system", "system_prompt", "tools", "functions", "chat_template_kwargs")
_PAIR = ("prompt", "question", "instruction", "input", "history", "messages", "conversations")

USED: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages", *_TEMPLATE, "prompt"),
    "sharegpt": ("conversations", *_TEMPLATE, "prompt"),
    "prompt_completion": ("prompt", "completion", *_TEMPLATE),
    "prompt_answer": ("prompt", "answer"),
    "alpaca": ("instruction", "input", "output", "history", *_TEMPLATE, "text"),
    "text": ("text",),
    "preference": ("chosen", "rejected", *_PAIR, *_TEMPLATE, "group"),
    "perplexity": ("prompt", "answer", "text", "group"),
    "multiple_choice": ("question", "choices", "answer", "group"),
    "generation": ("prompt", "answer", "source", "group"),
    "kl": ("prompt", "answer", "text", "group"),
}
"""Format of training records, or kind of evaluation -> the fields that are read."""

TURN = (
    *("role", "from", "content", "value", "name"),
    *("tool_calls", "function_call", "tool_call_id"),
    *("reasoning_content", "reasoning", "thinking"),
    *("weight", "train", "training", "loss"),
)
"""The fields of a turn that are read."""

HARMLESS: Mapping[str, tuple[str, ...]] = {
    "identifiers": (
        *("id", "_id", "uid", "uuid", "idx", "index", "hash", "md5", "sha256", "guid"),
        *("prompt_id", "question_id", "conversation_id", "conv_id", "row_id", "sample_id"),
        *(
            "example_id",
            "task_id",
            "problem_id",
            "doc_id",
            "item_id",
            "session_id",
            "turn_id",
            "group",
        ),
        *("__index_level_0__", "Unnamed: 0", "tstamp"),
    ),
    "origin": (
        *("source", "sources", "data_source", "dataset", "dataset_name", "origin", "subset"),
        *("split", "url", "urls", "link", "file", "file_path", "file_name", "filename", "path"),
        *("dump", "license", "author", "date", "created", "created_at", "added", "updated_at"),
        *("timestamp", "version", "views", "avatarUrl", "generated_by"),
    ),
    "description": (
        *("meta", "metadata", "attributes", "title", "language", "lang", "langdetect", "domain"),
        *("category", "categories", "subcategory", "subject", "topic", "topics", "tag", "tags"),
        *("task", "task_type", "task_name", "type", "level", "redacted", "openai_moderation"),
        *("custom_instruction", "skip_prompt_formatting", "parallel_tool_calls"),
    ),
    "scores and counts": (
        *("score", "scores", "quality", "quality_score", "difficulty", "rating", "ratings"),
        *("perplexity", "language_score", "int_score", "token_count", "num_tokens", "n_tokens"),
        *("length", "num_turns", "turn", "turns", "embedding", "embeddings"),
        *("score_chosen", "score_rejected", "chosen_score", "rejected_score"),
        *("rating_chosen", "rating_rejected", "chosen_rating", "rejected_rating"),
        *("chosen-rating", "rejected-rating"),
    ),
    "models that wrote it": (
        *("model", "model_name", "generator", "generation_model", "generation_models"),
        *("chosen_model", "rejected_model", "chosen-model", "rejected-model"),
    ),
}
"""Kind -> fields that describe a record in well-known data sets, and say nothing to be learned."""

HARMLESS_IN_TURN = ("id", "uuid", "index", "timestamp", "finish_reason", "model")
"""The fields of a turn that describe it."""

_MEDIA = "only text is trained"
_KTO = (
    "verdicts (KTO) and classes are not supported; make pairs for method dpo (chosen, rejected), "
    "or keep the records with a good answer"
)
_PAIRS = "preference records are for method: dpo (data.format: preference)"
_IN_PROMPT = "write it into the prompt, or the whole record as messages"
_TOOLS = "it is for dialogues that are trained on; write it into the prompt"
_TOKENS = "records that are tokenised already are not read"

REMEDIES: Mapping[str, str] = {
    "label": _KTO,
    "kto_tag": _KTO,
    "chosen": _PAIRS,
    "rejected": _PAIRS,
    "completions": "stepwise supervision is not supported",
    "labels": "stepwise supervision and tokenised records are not supported",
    "images": _MEDIA,
    "image": _MEDIA,
    "videos": _MEDIA,
    "video": _MEDIA,
    "audios": _MEDIA,
    "audio": _MEDIA,
    "input_ids": _TOKENS,
    "attention_mask": _TOKENS,
    "system": _IN_PROMPT,
    "system_prompt": _IN_PROMPT,
    "history": _IN_PROMPT,
    "input": _IN_PROMPT,
    "context": f"{_IN_PROMPT}; in alpaca the field is input",
    "documents": _IN_PROMPT,
    "tools": _TOOLS,
    "functions": _TOOLS,
    "weight": "weights of records are not supported; repeat or remove records",
}
"""Fields that are refused where they are not used -> what to do instead."""

TURN_REMEDIES: Mapping[str, str] = {
    "train_detail": "a turn is trained as a whole or not at all: give train: true or false",
    "images": _MEDIA,
    "image": _MEDIA,
    "videos": _MEDIA,
    "audio": _MEDIA,
    "audios": _MEDIA,
    "refusal": "write what the assistant says as content",
}
"""The same for the fields of a turn."""

_EVERYWHERE = frozenset(name for names in HARMLESS.values() for name in names)
_IN_TURN = frozenset((*TURN, *HARMLESS_IN_TURN))


def convert_each(records: Records, form: str, convert: Callable[[Record, str], T]) -> list[T]:
    """Return ``convert(record, where)`` of each record.

    Args:
        records: The records, without the fields that the user lets be ignored.
        form: A key of ``USED``.
        convert: Raises a ConfigError where a record is not of the form.

    Raises:
        ConfigError: Some cannot be converted, or have a field that is neither used by the form nor
            harmless; the first ten problems are named.
    """
    items: list[T] = []
    wrong: list[Problem] = []
    sound: list[int] = []
    for index, record in enumerate(records):
        try:
            items.append(convert(record, records.where(index)))
            sound.append(index)
        except ConfigError as error:
            wrong += error.problems
    problems = Problems(records.name)
    # Of a record that lacks a field it is said already which it has.
    problems.add(_unused(records, form, sound))
    problems.add(wrong)
    problems.check()
    return items


def _unused(records: Records, form: str, indices: Iterable[int]) -> list[Problem]:
    """Return the problems of fields that are neither used by ``form`` nor harmless.

    A field that is null or empty says nothing, and is not counted. Of those without a remedy, all
    that one record is the first to have are one problem.
    """
    found: dict[str, tuple[int, int]] = {}
    known = _EVERYWHERE.union(USED[form])
    lists = TURN_LISTS.intersection(USED[form])
    for index in indices:
        record = records[index]
        names = [name for name in record if name not in known and _says(record[name])]
        names += _unused_in_turns(record, lists)
        for name in names:
            first, count = found.get(name, (index, 0))
            found[name] = (first, count + 1)
    groups: dict[tuple[int, str], dict[str, int]] = {}
    for name, (first, count) in found.items():
        remedy = _remedy(name)
        groups.setdefault((first, remedy and f"{name}: {remedy}"), {})[name] = count
    return [
        Problem(records.where(first), _message(counts, form, len(records)))
        for (first, _), counts in groups.items()
    ]


def _unused_in_turns(record: Record, lists: Iterable[str]) -> set[str]:
    names = set()
    for key in lists:
        value = record.get(key)
        for turn in value if isinstance(value, list) else [value]:
            if isinstance(turn, dict) and not _IN_TURN.issuperset(turn):
                names |= {
                    f"{key}[].{name}"
                    for name, item in turn.items()
                    if name not in _IN_TURN and _says(item)
                }
    return names


def _says(value: Any) -> bool:
    return value is not None and value not in ("", [], {})


def _remedy(name: str) -> str:
    bare = _bare(name)
    return (REMEDIES if bare == name else TURN_REMEDIES).get(bare, "")


def _bare(name: str) -> str:
    return name.rpartition("[].")[2]


def _message(counts: Mapping[str, int], form: str, total: int) -> str:
    """Say which fields are refused: one, or several without a remedy."""
    most = max(counts.values())
    upto = "" if most == min(counts.values()) else "up to "
    names = [*counts]
    bare = [_bare(name) for name in names]
    shown = ", ".join(map(repr, names))
    of = (
        f"{upto}{most} of {total} records have the field{'s' * (len(names) > 1)} {shown}, this one "
    )
    if len(names) > 1:
        ignored = json.dumps([*dict.fromkeys(bare)], ensure_ascii=False)
        return f"{of}first; {form} does not know them; to leave them out: ignore_fields: {ignored}"
    remedy = _remedy(names[0])
    what = f"{form} does not use it: {remedy}" if remedy else f"it is not known to {form}"
    return f"{of}first; {what}; to leave it out, add {bare[0]!r} to ignore_fields"
