"""The data of the study's tasks: 1,500 training and 300 test records of each, made offline.

    python benchmarks/study/tasks.py OUT [--tasks words arithmetic]

    words        French words and their English translations, from Debian's dict-freedict-fra-eng
    definitions  English words and their definitions, from WordNet in Debian's wordnet-base
    code         docstrings and the signatures of their functions, from Python's standard library
    arithmetic   generated problems of six kinds

Sources and licences are in the README beside this file. A Debian package need not be installed: it
is downloaded with apt-get and unpacked below OUT. Nothing of it is part of this project.

Each task gets ``OUT/TASK/train.jsonl``, ``test.jsonl`` and ``made.json``, which tells counts and
checksums. Records are {prompt, answer}. Each candidate has keys, which say what it is about: no key
of a test record is one of a training record, and no two test records share one. The same sources
give the same files.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import json
import platform
import random
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

TRAIN, TEST = 1500, 300
SEED = 20261128
ROOT = Path("/")


class MissingSourceError(Exception):
    """A source cannot be had; the message says how to get it."""


@dataclass(frozen=True)
class Candidate:
    """A record that may be taken.

    Attributes:
        prompt: What is asked, without a blank at its end.
        answer: What is to be answered, on one line.
        keys: What it is about: candidates that share one are never on both sides.
    """

    prompt: str
    answer: str
    keys: frozenset[str]

    @property
    def record(self) -> dict[str, str]:
        """The record as a line of a file; training puts nothing between prompt and answer."""
        return {"prompt": self.prompt, "answer": f" {self.answer}"}


@dataclass(frozen=True)
class Task:
    """How the candidates of a task are made.

    Attributes:
        files: Files that it reads, below the file system's root or a package unpacked elsewhere.
        package: The Debian package that has them, None for a task without one.
        candidates: Returns all that may be taken, in an order that the sources decide.
    """

    candidates: Callable[[list[Path]], Iterator[Candidate]]
    package: str | None = None
    files: tuple[str, ...] = ()


_ENTRY = re.compile(r"([^\W\d_]+) /[^/]+/ <([^>]*)>")
_PLAIN_WORD = re.compile(r"[a-z]{2,}")


def words(files: list[Path]) -> Iterator[Candidate]:
    """Yield French words with their first English translation, both single words."""
    lines = gzip.decompress(files[0].read_bytes()).decode("utf-8").splitlines()
    for headword, below in pairwise(lines):
        entry = _ENTRY.fullmatch(headword)
        if entry is None:
            continue
        french = entry[1]
        english = below.strip().removeprefix("1. ").split(",")[0].strip()
        if not french.islower() or not _PLAIN_WORD.fullmatch(english) or english == french:
            continue
        yield Candidate(
            f"French: {french}\nEnglish:", english, frozenset((f"fr {french}", f"en {english}"))
        )


_PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
_LONGEST_DEFINITION = 80


def definitions(files: list[Path]) -> Iterator[Candidate]:
    """Yield words that occur in WordNet's tagged texts, with the definition of their first sense.

    Formats are those of WordNet's wndb(5).
    """
    for index in files:
        part = index.suffix[1:]
        with index.with_name(f"data.{part}").open("rb") as data:
            for line in index.read_text("utf-8").splitlines():
                if line.startswith(" "):  # the licence
                    continue
                lemma, _, _, pointers, *rest = line.split()
                senses = rest[int(pointers) :]
                if int(senses[1]) == 0 or not _PLAIN_WORD.fullmatch(lemma):
                    continue
                data.seek(int(senses[2]))
                gloss = data.readline().decode("utf-8").partition("| ")[2]
                meaning = gloss.split(";")[0].strip()
                if not 10 <= len(meaning) <= _LONGEST_DEFINITION or '"' in meaning:
                    continue
                yield Candidate(
                    f"Define the {_PARTS[part]} {lemma}:",
                    meaning,
                    frozenset((f"word {lemma}", f"meaning {meaning}")),
                )


_LONGEST_SIGNATURE = 60


def code(files: list[Path]) -> Iterator[Candidate]:
    """Yield functions of Python's standard library: the docstring's first line, and the head."""
    for path in sorted(files[0].rglob("*.py")):
        inside = path.relative_to(files[0]).parts
        if any(part in ("test", "tests", "site-packages", "idlelib") for part in inside):
            continue
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):  # lib2to3 has files that are meant to be wrong
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (found := _function(node)) is not None:
                yield found


def _function(node: ast.FunctionDef) -> Candidate | None:
    said = (ast.get_docstring(node) or "").split("\n")[0].strip()
    signature = f"{node.name}({ast.unparse(node.args)}):"
    sound = said.isascii() and 15 <= len(said) <= 100 and "(" not in said
    if node.name.startswith("_") or not sound or len(signature) > _LONGEST_SIGNATURE:
        return None
    return Candidate(
        f'"""{said}"""\ndef', signature, frozenset((f"name {node.name}", f"doc {said.lower()}"))
    )


_OPERATIONS = 6
_DRAWN = 6000


def arithmetic(files: list[Path]) -> Iterator[Candidate]:
    """Yield generated problems: sums, differences, products, remainders, the larger, short sums.

    The key is the operation with its sorted operands: 12 + 7 and 7 + 12 are one problem.
    """
    rng = random.Random(SEED)
    for number in range(_DRAWN):
        a, b, c = rng.randint(10, 999), rng.randint(10, 999), rng.randint(2, 9)
        kind = number % _OPERATIONS
        low, high = sorted((a, b))
        operands = [low, high]
        if kind == 0:
            asked, result = f"{a} + {b} =", a + b
        elif kind == 1:
            asked, result = f"{high} - {low} =", high - low
        elif kind == 2:
            asked, result = f"{a} * {c} =", a * c
            operands = [a, c]
        elif kind == 3:
            asked, result = f"{a} mod {c} =", a % c
            operands = [a, c]
        elif kind == 4:
            asked, result = f"max({a}, {b}) =", high
        else:
            x, y, z = sorted((a % 50, b % 50, c))
            asked, result = f"{x} + {y} + {z} =", x + y + z
            operands = [x, y, z]
        yield Candidate(asked, str(result), frozenset((f"{kind} {operands}",)))


_WORDNET = tuple(f"usr/share/wordnet/index.{part}" for part in _PARTS)
TASKS = {
    "words": Task(words, "dict-freedict-fra-eng", ("usr/share/dictd/freedict-fra-eng.dict.dz",)),
    "arithmetic": Task(arithmetic),
    "definitions": Task(definitions, "wordnet-base", _WORDNET),
    "code": Task(code),
}


def chosen(
    candidates: Iterable[Candidate], train: int, test: int, seed: int
) -> tuple[list[Candidate], list[Candidate]]:
    """Return training and test records, drawn at random; see the module for what is held out.

    Raises:
        MissingSourceError: There are too few candidates.
    """
    rest = sorted({each.prompt: each for each in candidates}.values(), key=lambda x: x.prompt)
    random.Random(seed).shuffle(rest)
    held: list[Candidate] = []
    kept: list[Candidate] = []
    about: set[str] = set()
    for each in rest:
        if len(held) < test and not about & each.keys:
            held.append(each)
            about |= each.keys
        else:
            kept.append(each)
    trained = [each for each in kept if not about & each.keys][:train]
    if len(held) < test or len(trained) < train:
        found = f"{len(trained)} training and {len(held)} test records"
        raise MissingSourceError(f"the source has too little: {found}, not {train} and {test}")
    check_held_out(trained, held)
    return trained, held


def check_held_out(trained: Iterable[Candidate], held: Iterable[Candidate]) -> None:
    """Check by the records themselves that no test item is trained on.

    Raises:
        ValueError: A key, or a prompt with its answer, is on both sides.
    """
    known = {key for each in trained for key in (*each.keys, each.prompt)}
    leaked = [each for each in held if known & {*each.keys, each.prompt}]
    if leaked:
        raise ValueError(f"{len(leaked)} test records are trained on, the first: {leaked[0]}")


def source_files(name: str, task: Task, root: Path, unpacked: Path) -> list[Path]:
    """Return the files that a task reads: installed ones, else those of a package unpacked here.

    Raises:
        MissingSourceError: The package is neither installed nor to be had.
    """
    if name == "code":
        return [Path(sysconfig.get_path("stdlib"))]
    if task.package is None:
        return []
    for place in (root, unpacked):
        files = [place / each for each in task.files]
        if all(each.is_file() for each in files):
            return files
    _fetch(name, task.package, unpacked)
    return source_files(name, task, unpacked, unpacked)


def _fetch(name: str, package: str, unpacked: Path) -> None:
    """Download a Debian package and unpack it."""
    unpacked.mkdir(parents=True, exist_ok=True)
    help_text = f"install it: apt-get install {package}"
    try:
        command = ["apt-get", "download", "-q", package]
        subprocess.run(command, cwd=unpacked, check=True, capture_output=True, timeout=300)
        # Of several versions the last one; its epoch's colon is %3a in the name.
        archive = sorted(unpacked.glob(f"{package}_*.deb"))[-1]
        command = ["dpkg-deb", "-x", str(archive), str(unpacked)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        told = getattr(error, "stderr", None) or b""
        said = told.decode(errors="replace").strip().splitlines()[-1:] or [str(error)]
        raise MissingSourceError(
            f"{name} needs the Debian package {package}, which is not installed and cannot be "
            f"downloaded ({said[0]}); {help_text}"
        ) from error


def make(
    name: str, out: Path, *, root: Path = ROOT, train: int = TRAIN, test: int = TEST
) -> dict[str, Any]:
    """Write the data of a task; return what ``made.json`` holds.

    Args:
        name: Its name.
        out: Folder of all tasks.
        root: Where installed files are looked for.
        train: Number of training records.
        test: Number of test records.

    Raises:
        MissingSourceError: The source cannot be had, or has too little.
    """
    task = TASKS[name]
    files = source_files(name, task, root, out / "sources")
    trained, held = chosen(task.candidates(files), train, test, SEED)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {"task": name, "seed": SEED, "package": task.package}
    if name == "code":
        made["python"] = platform.python_version()
    made["sources"] = {str(x): _checksum(x.read_bytes()) for x in files if x.is_file()}
    for part, records in (("train", trained), ("test", held)):
        lines = [json.dumps(each.record, ensure_ascii=False) + "\n" for each in records]
        content = "".join(lines).encode()
        (folder / f"{part}.jsonl").write_bytes(content)
        made[part] = {"records": len(records), "sha256": _checksum(content)}
    text = json.dumps(made, indent=1) + "\n"
    (folder / "made.json").write_text(text, encoding="utf-8")
    return made


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    """Make the data of the tasks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    given = parser.parse_args()
    try:
        for name in given.tasks:
            made = make(name, given.out)
            print(f"{name}: {made['train']['records']} + {made['test']['records']} records")
    except MissingSourceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
