"""The eight tasks of TRACE, from its folder: ``tasks: {benchmark: trace, folder: PATH}``.

TRACE is Wang et al., "TRACE: A Comprehensive Benchmark for Continual Learning in Large Language
Models", arXiv 2310.06762. Order and epochs are those of its published scripts, which HFT (arXiv
2404.18466) takes over; metrics are those of its published evaluations:

    C-STANCE, FOMC, NumGLUE-cm, NumGLUE-ds  exact match
    ScienceQA                               exact match of the letter that the answer begins with
    MeetingBank                             ROUGE-L
    Py150                                   edit similarity
    20Minuten                               SARI, whose source is the whole prompt

Py150 is compared as it is written, where TRACE first puts literals in the place of their marks.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hft_ray.config.section import PositiveInt, Section

_EXACT = {"metric": "exact_match"}
TASKS: dict[str, tuple[int, dict[str, Any]]] = {
    "C-STANCE": (5, {**_EXACT, "max_new_tokens": 16}),
    "FOMC": (3, {**_EXACT, "max_new_tokens": 16}),
    "MeetingBank": (7, {"metric": "rouge_l", "max_new_tokens": 512, "stop": []}),
    "Py150": (5, {"metric": "edit_similarity", "max_new_tokens": 128}),
    "ScienceQA": (
        3,
        {**_EXACT, "max_new_tokens": 8, "stop": [], "extract": r"\S", "extract_answer": True},
    ),
    "NumGLUE-cm": (5, {**_EXACT, "max_new_tokens": 16}),
    "NumGLUE-ds": (5, {**_EXACT, "max_new_tokens": 16}),
    "20Minuten": (7, {"metric": "sari", "source": "prompt", "max_new_tokens": 512, "stop": []}),
}
"""In TRACE's order: epochs, and the settings of the evaluation."""


class Trace(Section):
    """The tasks of TRACE, in its order, with its epochs and metrics."""

    benchmark: Literal["trace"]
    """TRACE, arXiv 2310.06762."""
    folder: str = Field(min_length=1)
    """Where its folders TASK with train.json and test.json lie."""
    limit: PositiveInt | None = None
    """Train on, and score, only the first so many records of each task."""

    def tasks(self) -> list[dict[str, Any]]:
        """Return the tasks as FILE writes them."""
        few = {} if self.limit is None else {"limit": self.limit}
        return [
            {
                "name": name,
                "data": {"train": self._file(name, "train"), "format": "prompt_answer", **few},
                "epochs": epochs,
                "evaluation": [
                    {"kind": "generation", "data": self._file(name, "test"), **scored, **few}
                ],
            }
            for name, (epochs, scored) in TASKS.items()
        ]

    def _file(self, task: str, part: str) -> str:
        return f"{self.folder.rstrip('/')}/{task}/{part}.json"
