"""One fine-tuning run: draw, train, draw again, evaluate, report."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from torch import Tensor, nn

from hft_ray.config import Config
from hft_ray.data import TrainingSet, batch_indices, collate, require_isolation
from hft_ray.evaluation import Scores, metric_errors, metric_values, worst_values
from hft_ray.ranks import Ranks
from hft_ray.selection import Draw, Schedule, Touched, draw
from hft_ray.training.checkpoint import (
    RANDOM,
    Manifest,
    meaning,
    newest_whole,
    random_state,
    read,
    refuse_other,
    set_random_state,
    tensors_of,
    write,
)
from hft_ray.training.engine import Engine, Numerics, micro_batch_size
from hft_ray.training.export import save_model
from hft_ray.training.schedule import learning_rate
from hft_ray.training.workspace import Workspace

log = logging.getLogger(__name__)
Report = Callable[[int, dict[str, float], bool], bool]
"""``report(step, metrics, scored)`` -> whether to stop; called on rank 0 alone.

``scored`` tells that the metrics hold every score, not the training loss alone.
"""


class TrainingError(RuntimeError):
    """A run that cannot go on, on every rank at the same step; its message says why."""


@dataclass(frozen=True)
class Round:
    """One draw that was trained: number, first step, hash of the trained names, fractions."""

    round: int
    step: int
    hash: str
    fractions: dict[str, float]


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        state: ``complete``, or ``stopped`` when a report asked for it.
        values: Metrics at the last step.
        base: Metrics of the untouched model.
        steps: Optimizer steps made.
        seconds: Wall time of training and evaluation.
        selection: The draws that were trained.
        touched_fraction: Share of the block parameters that any draw trained.
    """

    state: Literal["complete", "stopped"]
    values: dict[str, float]
    base: dict[str, float]
    steps: int
    seconds: float
    selection: list[Round] = field(default_factory=list)
    touched_fraction: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``result.json``."""
        return asdict(self)


def total_steps(config: Config, examples: int) -> int:
    """Return the optimizer steps of a run over ``examples`` training examples."""
    if config.training.steps is not None:
        return config.training.steps
    return max(1, math.ceil((config.training.epochs or 1) * examples / config.training.batch_size))


def run_base(config: Config, workspace: Workspace) -> dict[str, Any]:
    """Score the untouched model (a collective), or take its scores from the store.

    Returns:
        ``values`` (metric -> value) and ``worst`` (metric -> worst possible value).
    """
    scores = _known_base(config, workspace)
    if scores is None:
        numerics = Numerics.of(config.training, workspace.device)
        ranks = _ranks(config, workspace)
        with workspace.model(config, numerics) as model:
            engine = Engine(model, config.training, numerics, ranks)
            try:
                engine.select(draw(workspace.catalog(config.model), config.selection, 0))
                scores = _score_base(config, workspace, engine.forward_model, ranks)
            finally:
                engine.close()
    return {
        "values": {**metric_values(scores, scores), **metric_errors(scores, scores)},
        "worst": worst_values(scores),
    }


def _base_key(config: Config, workspace: Workspace) -> str:
    numerics = Numerics.of(config.training, workspace.device)
    weights = workspace.weights_hash(config.model)
    return workspace.base_scores().key(weights, config.evaluation, str(numerics.dtype))


def _known_base(config: Config, workspace: Workspace) -> Scores | None:
    """Return the stored scores of the base, the same answer on every rank."""
    found = None
    if workspace.ranks.main:
        found = workspace.base_scores().get(_base_key(config, workspace))
    return workspace.ranks.broadcast(found)


def _score_base(config: Config, workspace: Workspace, model: nn.Module, ranks: Ranks) -> Scores:
    """Score ``model``, which must still be untouched, and store the scores (a collective)."""
    scores = workspace.suite(config.model, config.evaluation).score(model, ranks)
    if ranks.main:
        workspace.base_scores().put(_base_key(config, workspace), scores)
    return scores


def _ranks(config: Config, workspace: Workspace) -> Ranks:
    """Return the ranks, in lockstep where a forward pass needs all of them."""
    ranks = workspace.ranks
    return Ranks(ranks.rank, ranks.size, config.training.zero_stage == 3 and ranks.size > 1)


def run(
    config: Config,
    workspace: Workspace,
    report: Report,
    save_to: Path | None = None,
    checkpoints: Path | None = None,
) -> Outcome:
    """Fine-tune the base model as ``config`` says (a collective over the workspace's ranks).

    Args:
        config: FILE without ``search``.
        workspace: Where to run.
        report: Told the training loss and the scores as they come; may ask to stop.
        save_to: Write the trained model there as a Hugging Face directory.
        checkpoints: Folder of the run's checkpoints, for ``training.checkpoint_every``; the run
            goes on from the newest one there that is whole.

    Raises:
        TrainingError: The loss is no number any more.
        CheckpointError: The checkpoint is of another run.
    """
    numerics = Numerics.of(config.training, workspace.device)
    torch.manual_seed(config.training.seed)
    with workspace.model(config, numerics) as model:
        one = _Run(config, workspace, model, numerics, report)
        try:
            start = one.resume(checkpoints) if checkpoints is not None else 0
            outcome = one.train(start, checkpoints)
            if save_to is not None:
                save_model(model, workspace.tokenizer(config.model), save_to, workspace.ranks)
        finally:
            one.engine.close()
    return outcome


class _Run:
    """The state of one run while it goes."""

    def __init__(
        self,
        config: Config,
        workspace: Workspace,
        model: nn.Module,
        numerics: Numerics,
        report: Report,
    ) -> None:
        self.config, self.workspace, self.model = config, workspace, model
        self.report = report
        self.ranks = _ranks(config, workspace)
        self.engine = Engine(model, config.training, numerics, self.ranks)
        self.data: TrainingSet = workspace.training_set(config.model, config.data)
        self.suite = workspace.suite(config.model, config.evaluation)
        self.catalog = workspace.catalog(config.model)
        self.touched = Touched(self.catalog)
        self.steps = total_steps(config, len(self.data))
        per_epoch = math.ceil(len(self.data) / config.training.batch_size)
        self.schedule = Schedule(config.selection.reselect, per_epoch)
        self.rounds: list[Round] = []
        self.draw: Draw | None = None
        self.memory = _PeakMemory(workspace.device)
        self.base: Scores | None = None
        self.started = time.monotonic()
        if config.training.gradient_checkpointing:
            # Reentrant checkpointing gives a block no gradient when its inputs need none.
            model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]

    def resume(self, folder: Path) -> int:
        """Go on from the newest whole checkpoint in ``folder``; return the steps made, 0 if none.

        Raises:
            CheckpointError: It is of another model, other settings or another selection.
        """
        path, problems = newest_whole(folder) if self.ranks.main else (None, [])
        path = self.ranks.broadcast(path)
        for problem in problems:
            log.warning("%s; an older checkpoint is used", problem)
        if path is None:
            return 0
        manifest, files = read(path)
        drawn = draw(self.catalog, self.config.selection, manifest.round)
        refuse_other(path, manifest, self._identity(manifest.step, drawn))
        self.engine.restore(tensors_of(files, random=False), manifest.steps)
        for number in range(manifest.round + 1):
            self.touched.add(draw(self.catalog, self.config.selection, number))
        self.draw = drawn
        self.engine.select(drawn)
        self.rounds = [Round(**each) for each in manifest.rounds]
        self.started -= manifest.seconds
        if manifest.ranks == self.ranks.size:
            states = dict(tensors_of(files, random=True))
            set_random_state(self.workspace.device, states[f"{RANDOM}{self.ranks.rank}"])
        return manifest.step

    def _save(self, done: int, folder: Path) -> None:
        """Write a checkpoint after ``done`` steps (a collective)."""
        assert self.draw is not None
        manifest = self._identity(done, self.draw)
        states = self.ranks.gather(random_state(self.workspace.device))
        tensors = itertools.chain(
            self.engine.state(self.touched.parameters),
            ((f"{RANDOM}{rank}", state) for rank, state in enumerate(states)),
        )
        if self.ranks.main:
            write(folder, manifest, tensors, self.config.training.checkpoints_kept)
        else:
            for _ in tensors:
                pass
        self.ranks.barrier()

    def _identity(self, done: int, drawn: Draw) -> Manifest:
        return Manifest(
            step=done,
            model=self.workspace.weights_hash(self.config.model),
            meaning=meaning(self.config),
            selection=drawn.hash,
            parameters=list(drawn.parameters),
            round=drawn.round,
            steps=self.engine.steps,
            rounds=[asdict(each) for each in self.rounds],
            seconds=time.monotonic() - self.started,
            ranks=self.ranks.size,
        )

    def train(self, start: int, checkpoints: Path | None) -> Outcome:
        """Make every step from ``start`` on; evaluate at the asked ones and after the last."""
        if start == 0:
            self._select(0)
        if self.config.data.packing:
            micro = micro_batch_size(self.config.training, self.ranks.size)
            require_isolation(self.engine.forward_model, rows=micro)
        self.base = _known_base(self.config, self.workspace) or _score_base(
            self.config, self.workspace, self.engine.forward_model, self.ranks
        )
        every, log_every = self.config.evaluation.every, self.config.training.log_every
        values: dict[str, float] = {}
        losses: list[Tensor] = []
        window = _Throughput()
        save_every = self.config.training.checkpoint_every if checkpoints is not None else None
        for step in range(start, self.steps):
            if self.schedule.starts_round(step) and step > 0:
                self._select(step)
            losses.append(self._step(step, window))
            done = step + 1
            if checkpoints and save_every and done % save_every == 0 and done < self.steps:
                self._save(done, checkpoints)
            scored = done == self.steps or (every is not None and done % every == 0)
            if not scored and done % log_every:
                continue
            values = self._measure(done, losses, window)
            if scored:
                values |= self._score()
            losses, window = [], _Throughput()
            if self._told_to_stop(done, values, scored) and done < self.steps:
                return self._outcome("stopped", values, done)
        return self._outcome("complete", values, self.steps)

    def _select(self, step: int) -> None:
        """Draw for the round that starts at ``step`` and build the engine over the draw."""
        drawn = draw(self.catalog, self.config.selection, self.schedule.round_of(step))
        fractions = asdict(drawn.fractions)
        self.rounds.append(Round(drawn.round, step, drawn.hash, fractions))
        self.touched.add(drawn)
        self.draw = drawn
        self.engine.select(drawn)

    def _step(self, step: int, window: _Throughput) -> Tensor:
        training = self.config.training
        indices = batch_indices(step, len(self.data), training.batch_size, training.seed)
        tokens = int(self.data.answer_tokens[indices].sum())
        micro = micro_batch_size(training, self.ranks.size)
        stride = micro * self.ranks.size
        pad = self.workspace.tokenizer(self.config.model).pad_token_id
        batches = []
        for start in range(self.ranks.rank * micro, training.batch_size, stride):
            items = [self.data[index] for index in indices[start : start + micro]]
            batches.append(collate(items, pad))
            window.add(int(batches[-1]["input_ids"].numel()) * self.ranks.size)
        rate = learning_rate(step, self.steps, training)
        return self.engine.step(batches, tokens, rate)

    def _measure(self, done: int, losses: list[Tensor], window: _Throughput) -> dict[str, float]:
        """Return the metrics of the steps since the last report."""
        loss = float(torch.stack(losses).mean())
        # The loss is summed over all ranks, so that all see the same and leave together.
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss} by step {done}; try a lower learning rate")
        assert self.draw is not None
        return {
            "train/loss": loss,
            "train/tokens_per_second": window.rate(),
            "selection/trainable_fraction": self.draw.fractions.model_parameters,
            "selection/touched_fraction": self.touched.fraction,
            "cost/device_seconds": (time.monotonic() - self.started) * self.ranks.size,
            "cost/peak_memory_bytes": float(self.memory.peak()),
        }

    def _score(self) -> dict[str, float]:
        scores = self.suite.score(self.engine.forward_model, self.ranks)
        return {**metric_values(scores, self.base), **metric_errors(scores, self.base)}

    def _told_to_stop(self, done: int, values: dict[str, float], scored: bool) -> bool:
        stop = self.report(done, values, scored) if self.ranks.main else False
        return self.ranks.broadcast(stop)

    def _outcome(
        self, state: Literal["complete", "stopped"], values: dict[str, float], steps: int
    ) -> Outcome:
        assert self.base is not None
        return Outcome(
            state=state,
            values=values,
            base=metric_values(self.base, self.base),
            steps=steps,
            seconds=time.monotonic() - self.started,
            selection=self.rounds,
            touched_fraction=self.touched.fraction,
        )


class _Throughput:
    """Tokens per second of one window of steps, re-selection included."""

    def __init__(self) -> None:
        self.tokens, self.started = 0, time.monotonic()

    def add(self, tokens: int) -> None:
        self.tokens += tokens

    def rate(self) -> float:
        return self.tokens / max(time.monotonic() - self.started, 1e-9)


class _PeakMemory:
    """Peak memory of one run: the device's allocations, or on a CPU the process's resident set."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.highest = device, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        # A resident set has no peak that could be reset between runs: the highest seen counts.
        self.highest = max(self.highest, psutil.Process().memory_info().rss)
        return self.highest
