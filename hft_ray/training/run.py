"""One fine-tuning run: draw, train, draw again, evaluate, report."""

from __future__ import annotations

import gc
import itertools
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hft_ray.config import Config
from hft_ray.data import TrainingSet, batch_indices, collate, require_isolation
from hft_ray.evaluation import Scores, metric_errors, metric_values
from hft_ray.selection import Draw, History, Schedule, Touched, draw, needs, pool
from hft_ray.training.audit import Audit
from hft_ray.training.base import known_base, run_ranks, score_base
from hft_ray.training.candidates import Candidates
from hft_ray.training.checkpoint import (
    RANDOM,
    Manifest,
    decisive,
    newest_whole,
    random_state,
    read,
    refuse_other,
    refuse_other_draw,
    set_random_state,
    tensors_of,
    write,
)
from hft_ray.training.engine import Engine, Numerics, micro_batch_size
from hft_ray.training.export import save_model
from hft_ray.training.garbage import only_new_garbage
from hft_ray.training.gauges import PeakMemory, Throughput
from hft_ray.training.models import recompute_activations
from hft_ray.training.origin import Origin
from hft_ray.training.outcome import Candidate, Outcome, Report, Round, TrainingError
from hft_ray.training.probe import gradient_norms
from hft_ray.training.schedule import learning_rate, total_steps
from hft_ray.training.variants import Extras, Maker, score_variants
from hft_ray.training.workspace import Workspace

log = logging.getLogger(__name__)


def run(
    config: Config,
    workspace: Workspace,
    report: Report,
    save_to: Path | None = None,
    checkpoints: Path | None = None,
    extras: Extras | None = None,
) -> Outcome:
    """Fine-tune the base model as ``config`` says (a collective over the workspace's ranks).

    Args:
        config: FILE without ``search``.
        workspace: Where to run.
        report: Told the training loss and the scores as they come; may ask to stop.
        save_to: Write the trained model there as a Hugging Face directory.
        checkpoints: Folder of the run's checkpoints, for ``training.checkpoint_every``; the run
            goes on from the newest one there that is whole.
        extras: What to make beside the last model.

    Raises:
        TrainingError: The loss is no number any more.
        CheckpointError: The checkpoint is of another run.
    """
    numerics = Numerics.of(config.training, workspace.device)
    torch.manual_seed(config.training.seed)
    gc.collect()  # what an earlier run of this process left, its model above all
    with workspace.model(config, numerics) as model, only_new_garbage():
        one = _Run(config, workspace, model, numerics, report, extras)
        try:
            start = one.resume(checkpoints) if checkpoints is not None else 0
            outcome = one.train(start, checkpoints)
            if save_to is not None:
                save_model(model, workspace.tokenizer(config.model), save_to, workspace.ranks)
            if extras is not None and outcome.state == "complete":
                one.add_variants(outcome, extras)
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
        extras: Extras | None,
    ) -> None:
        self.config, self.workspace, self.model = config, workspace, model
        self.report = report
        self.ranks = run_ranks(config, workspace)
        self.engine = Engine(model, config.training, numerics, self.ranks)
        base = workspace.weights_hash(config.model)
        self.candidates = Candidates(extras, model, base, self.ranks) if extras else None
        self.data: TrainingSet = workspace.training_set(config.model, config.data)
        self.suite = workspace.suite(config.model, config.evaluation)
        self.catalog = workspace.catalog(config.model)
        self.touched = Touched(self.catalog)
        self.steps = total_steps(config, len(self.data))
        per_epoch = math.ceil(len(self.data) / config.training.batch_size)
        self.schedule = Schedule(config.selection.reselect, per_epoch)
        self.rounds: list[Round] = []
        self.losses: list[Tensor] = []
        self.draw: Draw | None = None
        self.history = History()
        self.origin = Origin(model, self.catalog, self.ranks)
        self.audit = Audit(model, self.ranks) if config.selection.audit else None
        self.memory = PeakMemory(workspace.device)
        self.base: Scores | None = None
        self.started = time.monotonic()
        if config.training.gradient_checkpointing:
            recompute_activations(model)

    def resume(self, folder: Path) -> int:
        """Go on from the newest whole checkpoint in ``folder``; return the steps made, 0 if none.

        Raises:
            CheckpointError: It is of another model, other settings or another selection.
        """
        path, problems = newest_whole(folder) if self.ranks.main else (None, [])
        path = self.ranks.broadcast(path)
        for problem in problems:
            log.warning("%s", problem)
        if path is None:
            log.info("no checkpoint in %s to go on from: starting afresh", folder)
            return 0
        manifest, files = read(path)
        config = self.config
        model = self.workspace.weights_hash(config.model)
        refuse_other(path, manifest, model, self.data.identity, decisive(config))
        self.history = History(**manifest.history)
        drawn = draw(self.catalog, config.selection, manifest.round, self.history)
        refuse_other_draw(path, manifest, drawn)
        log.info("going on from %s, step %d of %d", path, manifest.step, self.steps)
        # The model is still the base.
        self.origin.remember(manifest.touched)
        self.engine.select(drawn)
        self._know_base()
        self.engine.close()
        self.engine.restore(tensors_of(files, random=False), manifest.steps)
        self.touched.restore(manifest.touched)
        self._train_only(drawn)
        self.rounds = [Round(**each) for each in manifest.rounds]
        self.losses = [torch.tensor(loss, device=self.workspace.device) for loss in manifest.losses]
        if self.candidates:
            self.candidates.found = [Candidate(**each) for each in manifest.variants]
        self.started -= manifest.seconds
        if manifest.ranks == self.ranks.size:
            states = dict(tensors_of(files, random=True))
            set_random_state(self.workspace.device, states[f"{RANDOM}{self.ranks.rank}"])
        return manifest.step

    def _know_base(self) -> None:
        """Take the base's scores from the store, or score the model, which must be the base."""
        self.base = known_base(self.config, self.workspace) or score_base(
            self.config, self.workspace, self.engine.forward_model, self.ranks
        )

    def _save(self, done: int, folder: Path) -> None:
        """Write a checkpoint after ``done`` steps (a collective)."""
        assert self.draw is not None
        manifest = self._manifest(done, self.draw)
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

    def _manifest(self, done: int, drawn: Draw) -> Manifest:
        return Manifest(
            step=done,
            model=self.workspace.weights_hash(self.config.model),
            data=self.data.identity,
            settings=decisive(self.config),
            selection=drawn.hash,
            parameters=list(drawn.parameters),
            round=drawn.round,
            history={
                "times_drawn": dict(self.history.times_drawn),
                "measures": dict(self.history.measures),
            },
            touched=sorted(self.touched.parameters),
            steps=self.engine.steps,
            rounds=[asdict(each) for each in self.rounds],
            variants=[asdict(each) for each in self._found],
            losses=[float(loss) for loss in self.losses],
            seconds=time.monotonic() - self.started,
            ranks=self.ranks.size,
        )

    def train(self, start: int, checkpoints: Path | None) -> Outcome:
        """Make every step from ``start`` on; evaluate at the asked ones and after the last."""
        if start == 0:
            self._select(0)
            self._know_base()
        if self.config.data.packing:
            micro = micro_batch_size(self.config.training, self.ranks.size)
            require_isolation(self.engine.forward_model, rows=micro)
        every, log_every = self.config.evaluation.every, self.config.training.log_every
        values: dict[str, float] = {}
        window = Throughput()
        save_every = self.config.training.checkpoint_every if checkpoints is not None else None
        for step in range(start, self.steps):
            if self.schedule.starts_round(step) and step > 0:
                self._select(step)
            self.losses.append(self._step(step, window))
            done = step + 1
            round_ends = done == self.steps or self.schedule.starts_round(done)
            scored = done == self.steps or (every is not None and done % every == 0)
            if scored or round_ends or done % log_every == 0:
                values = self._measure(done, window)
                if round_ends:
                    values |= self._end_round()
                if scored:
                    values |= self._score()
                    self._offer(done, values)
                window = Throughput()
                if self._told_to_stop(done, values, scored) and done < self.steps:
                    return self._outcome("stopped", values, done)
            # Last: what was measured of this step is not measured again.
            if checkpoints and save_every and done % save_every == 0 and done < self.steps:
                self._save(done, checkpoints)
        return self._outcome("complete", values, self.steps)

    def _select(self, step: int) -> None:
        """Draw for the round that starts at ``step`` and train that draw from now on."""
        self.engine.detach()
        selection, before = self.config.selection, self.draw
        past = self.history.after(before.units) if before else History()
        self.history = replace(past, measures=self._measures(step))
        drawn = draw(self.catalog, selection, self.schedule.round_of(step), self.history)
        if before and selection.leaving == "reset":
            left = sorted(set(before.parameters) - set(drawn.parameters))
            self.origin.put_back(left)
            self.engine.forget(left)
        self.touched.add(drawn)
        fractions = asdict(drawn.fractions)
        touched = self.touched.fraction
        self.rounds.append(
            Round(drawn.round, step, drawn.hash, fractions, touched_fraction=touched)
        )
        self.origin.remember(drawn.parameters)
        self._train_only(drawn)

    def _train_only(self, drawn: Draw) -> None:
        self.draw = drawn
        if self.audit:
            self.audit.start(drawn.parameters)
        self.engine.select(drawn)

    def _measures(self, step: int) -> dict[str, float]:
        """Return what the strategy draws by, for a round that starts at ``step``."""
        selection = self.config.selection
        match needs(selection):
            case "gradient":
                units = pool(self.catalog, selection)
                return gradient_norms(self.model, units, self._coming(step), self.ranks)
            case "drift":
                return self.origin.drifts()
            case "nothing":
                return {}

    def _end_round(self) -> dict[str, float]:
        """Prove that what was frozen has not changed; return how far the rest has moved."""
        if self.audit is None:
            return {}
        self.audit.prove()
        distances = self.origin.distances()
        self.rounds[-1] = replace(self.rounds[-1], distances=distances)
        return {f"distance/{category}": x for category, x in distances.items()}

    def _step(self, step: int, window: Throughput) -> Tensor:
        training = self.config.training
        tokens = int(self.data.answer_tokens[self._indices(step)].sum())
        batches = list(self._passes(step))
        for batch in batches:
            window.add(int(batch["input_ids"].numel()) * self.ranks.size)
        rate = learning_rate(step, self.steps, training, self.rounds[-1].step)
        return self.engine.step(batches, tokens, rate)

    def _indices(self, step: int) -> list[int]:
        training = self.config.training
        return batch_indices(step, len(self.data), training.batch_size, training.seed)

    def _passes(self, step: int) -> Iterator[dict[str, Tensor]]:
        """Yield this rank's micro-batches of a step."""
        training, indices = self.config.training, self._indices(step)
        micro = micro_batch_size(training, self.ranks.size)
        stride = micro * self.ranks.size
        for start in range(self.ranks.rank * micro, training.batch_size, stride):
            yield self._batch(indices[start : start + micro])

    def _coming(self, step: int) -> list[dict[str, Tensor]]:
        """Return the next sequences from ``step`` on, as many as the strategy looks at."""
        count = self.config.selection.probe
        steps = range(step, step + math.ceil(count / self.config.training.batch_size))
        indices = [index for at in steps for index in self._indices(at)]
        return [self._batch([index]) for index in indices[:count]]

    def _batch(self, indices: list[int]) -> dict[str, Tensor]:
        pad = self.workspace.tokenizer(self.config.model).pad_token_id
        batch = collate([self.data[index] for index in indices], pad)
        return {key: value.to(self.workspace.device) for key, value in batch.items()}

    def _measure(self, done: int, window: Throughput) -> dict[str, float]:
        """Return the metrics of the steps since the last report."""
        loss = float(torch.stack(self.losses).mean())
        self.losses = []
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
        scores = self.suite.score(self.engine.forward_model, self.ranks, self.base)
        return {**metric_values(scores, self.base), **metric_errors(scores, self.base)}

    @property
    def _found(self) -> list[Candidate]:
        return self.candidates.found if self.candidates else []

    def _offer(self, done: int, values: dict[str, float]) -> None:
        """Hand a scored model to the candidates, if the run has any."""
        if self.candidates and done < self.steps:
            self.candidates.take(done, values, self.touched.parameters)
        elif self.candidates:
            self.candidates.take_last(values, self.touched.parameters)

    def add_variants(self, outcome: Outcome, extras: Extras) -> None:
        """Score what can be made of the trained model without training; restores it."""
        assert self.draw is not None
        assert self.base is not None
        touched = self.touched.parameters
        maker = Maker(self.engine, self.origin, self.catalog, self.draw, touched)
        base = metric_values(self.base, self.base)
        selection, size = self.config.selection, self.ranks.size
        outcome.variants += score_variants(
            maker, extras, selection, base, outcome, self._score, size
        )

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
            variants=list(self._found),
        )
