"""Makes the data of ``search_spaces/metamathqa_llama3.2_3b.yaml``; needs a network and the model.

    python benchmarks/metamathqa.py metamathqa

As PEFT's comparison of methods makes them (``method_comparison/MetaMathQA/data.py`` of its
repository, read on 2026-11-29): MetaMathQA's records of at most 1,300 characters in their order,
of which 5,000 steps of 4 see the first 20,000; all of GSM8K's test; 100 articles of finewiki.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

TEMPLATE = "Question: {query} Think step by step.\nAnswer:"
LONGEST = 1300
"""Characters of query and response with a space between them."""
TRAIN, ARTICLES, TOKENS = 20_000, 100, 768
Record = dict[str, str]


def training(rows: Iterable[Mapping[str, str]]) -> Iterator[Record]:
    """Yield MetaMathQA's rows that are not too long, as texts."""
    for row in rows:
        if len(f"{row['query']} {row['response']}") <= LONGEST:
            yield {"text": TEMPLATE.format(query=row["query"]) + row["response"]}


def questions(rows: Iterable[Mapping[str, str]]) -> Iterator[Record]:
    """Yield GSM8K's rows with the number that answers them."""
    for row in rows:
        answer = row["answer"].rpartition("#### ")[2].strip()
        yield {"prompt": TEMPLATE.format(query=row["question"]), "answer": answer}


def articles(rows: Iterable[Mapping[str, str]], tokenizer: Any, tokens: int) -> Iterator[Record]:
    """Yield articles cut to so many tokens, those that the tokenizer adds among them."""
    for row in rows:
        encoded = tokenizer(row["text"], return_offsets_mapping=True)["offset_mapping"]
        yield {"text": row["text"][: max(end for _, end in encoded[:tokens])]}


def write(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def main() -> None:
    """Download the three data sets and write what is taken of them."""
    from datasets import load_dataset  # takes seconds
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="meta-llama/Llama-3.2-3B")
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    rows = load_dataset("meta-math/MetaMathQA", split="train")
    write(given.folder / "train.jsonl", islice(training(rows), TRAIN))
    write(given.folder / "gsm8k.jsonl", questions(load_dataset("openai/gsm8k", "main")["test"]))
    wiki = load_dataset("HuggingFaceFW/finewiki", split="train", streaming=True).take(ARTICLES)
    write(given.folder / "finewiki.jsonl", articles(wiki, tokenizer, TOKENS))


if __name__ == "__main__":
    main()
