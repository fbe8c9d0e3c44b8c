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

from hft_ray.config.sections.section import PositiveInt, Section

_EXACT: dict[str, Any] = {"kind": "generation", "metric": "exact_match", "max_new_tokens": 16}
_LONG: dict[str, Any] = {"kind": "generation", "max_new_tokens": 512, "stop": []}
_LETTER = {"max_new_tokens": 8, "stop": [], "extract": r"\S", "extract_answer": True}
TASKS: dict[str, tuple[int, dict[str, Any]]] = {
    "C-STANCE": (5, _EXACT),
    "FOMC": (3, _EXACT),
    "MeetingBank": (7, {**_LONG, "metric": "rouge_l"}),
    "Py150": (5, {**_LONG, "metric": "edit_similarity"}),
    "ScienceQA": (3, {**_EXACT, **_LETTER}),
    "NumGLUE-cm": (5, _EXACT),
    "NumGLUE-ds": (5, _EXACT),
    "20Minuten": (7, {**_LONG, "metric": "sari", "source": "prompt"}),
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
                "evaluation": [{"name": name, "data": self._file(name, "test"), **scored, **few}],
            }
            for name, (epochs, scored) in TASKS.items()
        ]

    def _file(self, task: str, part: str) -> str:
        return f"{self.folder.rstrip('/')}/{task}/{part}.json"
