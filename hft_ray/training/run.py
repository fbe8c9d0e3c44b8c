"""One fine-tuning run: draw, train, draw again, evaluate, report."""

from __future__ import annotations

import gc
import itertools
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from hft_ray.config import Config
from hft_ray.config.keys import decisive
from hft_ray.evaluation import Scores, TaskSequence
from hft_ray.item_scores import SUFFIX
from hft_ray.mirror import Mirror
from hft_ray.selection import Draw, History
from hft_ray.training.base import known_base, run_ranks, score_base
from hft_ray.training.candidates import FINAL, Candidates
from hft_ray.training.causal import require_causal
from hft_ray.training.checkpoint import (
    RANDOM,
    STAGE,
    Manifest,
    newest_whole,
    random_state,
    read,
    refuse_other,
    refuse_other_draw,
    set_random_state,
    tensors_of,
    write,
)
from hft_ray.training.documents import Documents
from hft_ray.training.engine import Engine
from hft_ray.training.export import save_model
from hft_ray.training.feed import Feed
from hft_ray.training.garbage import only_new_garbage
from hft_ray.training.methods import make_stages
from hft_ray.training.models import recompute_activations
from hft_ray.training.numerics import Numerics
from hft_ray.training.outcome import Candidate, Outcome, Report, Round
from hft_ray.training.progress import Progress
from hft_ray.training.scoring import Scoring, base_values
from hft_ray.training.selector import Selector
from hft_ray.training.stages import Rounds, identity, stage_at
from hft_ray.training.utilisation import peak_flops
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
    mirror: Mirror | None = None,
    saved: Callable[[int], None] | None = None,
    items: Path | None = None,
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
        mirror: Where the checkpoints are copied to, and fetched from when the folder lacks them.
        saved: Told the step of every checkpoint, on rank 0.
        items: Folder for the scores of single items: a file for the trained model, and one for
            each candidate and variant.

    Raises:
        TrainingError: The loss is no number any more.
        CheckpointError: The checkpoint is of another run.
        MirrorError: The mirror does not answer.
    """
    numerics = Numerics.of(config.training, workspace.device)
    torch.manual_seed(config.training.seed)
    gc.collect()  # what an earlier run of this process left, its model above all
    with workspace.model(config, numerics) as model, only_new_garbage():
        one = _Run(config, workspace, model, numerics, report, extras, mirror)
        one.saved, one.items = saved, items
        try:
            start = one.resume(checkpoints) if checkpoints is not None else 0
            outcome = one.train(start, checkpoints)
            if save_to is not None:
                with one.selector.plain():
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
        mirror: Mirror | None,
    ) -> None:
        self.config, self.workspace, self.model = config, workspace, model
        self.report, self.mirror = report, mirror
        self.ranks = run_ranks(config, workspace)
        self.engine = Engine(model, config.training, numerics, self.ranks)
        base = workspace.weights_hash(config.model)
        self.candidates = Candidates(extras, model, base, self.ranks) if extras else None
        self.stages = make_stages(config, workspace)
        self.steps = self.stages[-1].end
        self.documents = Documents(model, config)
        self.feed = Feed(self.stages, config, self.ranks, workspace.device, self.documents)
        self.catalog = workspace.catalog(config.model)
        self.rounds = Rounds(config.selection.reselect, self.stages)
        self.selector = Selector(config, model, self.catalog, self.engine, self.ranks)
        peak = peak_flops(workspace.device, numerics.dtype)
        self.progress = Progress(workspace.device, self.ranks, peak)
        self.scoring: Scoring | None = None
        self.saved: Callable[[int], None] | None = None
        self.items: Path | None = None
        self._scored: dict[str, Any] | None = None
        self._latest: Scores | None = None
        if config.training.gradient_checkpointing:
            recompute_activations(model)

    def resume(self, folder: Path) -> int:
        """Go on from the newest whole checkpoint in ``folder``; return the steps made, 0 if none.

        Raises:
            CheckpointError: It is of another model, other settings or another selection.
        """
        path, problems = newest_whole(folder, self.mirror) if self.ranks.main else (None, [])
        path = self.ranks.broadcast(path)
        for problem in problems:
            log.warning("%s", problem)
        if path is None:
            log.info("no checkpoint in %s to go on from: starting afresh", folder)
            return 0
        manifest, files = read(path)
        config, selector = self.config, self.selector
        model = self.workspace.weights_hash(config.model)
        refuse_other(path, manifest, model, identity(self.stages), decisive(config))
        selector.history = History(**manifest.history)
        drawn = selector.drawn(manifest.round)
        refuse_other_draw(path, manifest, drawn)
        log.info("going on from %s, step %d of %d", path, manifest.step, self.steps)
        # The model is still the base.
        selector.origin.remember(manifest.touched)
        self.engine.attach(drawn)
        self._know_base()
        stage = stage_at(self.stages, manifest.step)
        if stage.start == 0:
            self._begin_stage(0)
        self.engine.close()
        self.engine.restore(tensors_of(files, beside=False), manifest.steps)
        selector.touched.restore(manifest.touched)
        selector.train_only(drawn)
        selector.rounds = [Round(**each) for each in manifest.rounds]
        self.progress.restore(manifest.losses, manifest.seconds)
        self._scored = manifest.scored
        if self.scoring and self.scoring.sequence:
            self.scoring.sequence.restore(manifest.sequence)
        if self.candidates:
            self.candidates.found = [Candidate(**each) for each in manifest.variants]
        beside = dict(tensors_of(files, beside=True))
        if 0 < stage.start < manifest.step:
            kept = (each for each in beside.items() if each[0].startswith(STAGE))
            stage.objective.restore({name.removeprefix(STAGE): x for name, x in kept})
        if manifest.ranks == self.ranks.size:
            set_random_state(self.workspace.device, beside[f"{RANDOM}{self.ranks.rank}"])
        return manifest.step

    def _know_base(self) -> None:
        """Take the base's scores from the store, or score the model, which must be the base."""
        config, workspace = self.config, self.workspace
        base = known_base(config, workspace)
        if base is None:
            with self.selector.plain():
                base = score_base(config, workspace, self.engine.forward_model, self.ranks)
        self.scoring = Scoring(config, workspace, self.ranks, base)

    def _save(self, done: int, folder: Path) -> None:
        """Write a checkpoint after ``done`` steps (a collective)."""
        assert self.selector.draw is not None
        manifest = self._manifest(done, self.selector.draw)
        states = self.ranks.gather(random_state(self.workspace.device))
        stage = stage_at(self.stages, done)
        # Of the first stage the base tells again; a stage that has not begun has nothing.
        kept = stage.objective.state() if 0 < stage.start < done else {}
        tensors = itertools.chain(
            self.engine.state(self.selector.trained),
            ((f"{STAGE}{name}", tensor) for name, tensor in kept.items()),
            ((f"{RANDOM}{rank}", state) for rank, state in enumerate(states)),
        )
        if self.ranks.main:
            write(folder, manifest, tensors, self.config.training.checkpoints_kept, self.mirror)
            if self.saved is not None:
                self.saved(done)
        else:
            for _ in tensors:
                pass
        self.ranks.barrier()

    def _manifest(self, done: int, drawn: Draw) -> Manifest:
        selector = self.selector
        return Manifest(
            step=done,
            model=self.workspace.weights_hash(self.config.model),
            data=identity(self.stages),
            settings=decisive(self.config),
            selection=drawn.hash,
            parameters=list(drawn.parameters),
            round=drawn.round,
            history={
                "times_drawn": dict(selector.history.times_drawn),
                "measures": dict(selector.history.measures),
            },
            touched=sorted(selector.touched.parameters),
            steps=self.engine.steps,
            rounds=[asdict(each) for each in selector.rounds],
            variants=[asdict(each) for each in self._found],
            sequence=[asdict(row) for row in self._sequence.rows] if self._sequence else [],
            ranks=self.ranks.size,
            scored=self._scored,
            **self.progress.state(),
        )

    def train(self, start: int, checkpoints: Path | None) -> Outcome:
        """Make every step from ``start`` on; evaluate at the asked ones and after each stage."""
        if start == 0:
            # A draw by gradients needs the objective. ZeRO-3 has none, and a model that runs only
            # under an engine.
            partitioned = self.config.training.zero_stage == 3
            if not partitioned:
                self._begin_stage(0)
            self._select(0)
            if partitioned:
                self._begin_stage(0)
            self._know_base()
            self._tell_start()
        elif self._scored is not None:
            # Whoever decides by it may have died before it heard.
            step, told = self._scored["step"], self._scored["values"]
            if self._told_to_stop(step, told, scored=True):
                return self._outcome("stopped", told, start)
        require_causal(self.engine.forward_model, self.config.model.name)
        self.documents.settle(self.ranks)
        every, log_every = self.config.evaluation.every, self.config.training.log_every
        values: dict[str, float] = {}
        self.progress.open_window()
        save_every = self.config.training.checkpoint_every if checkpoints is not None else None
        for step in range(start, self.steps):
            if step > 0:
                self._turn(step)
            self._step(step)
            done = step + 1
            stage_ends = done == stage_at(self.stages, step).end
            round_ends = stage_ends or self.rounds.starts(done)
            scored = stage_ends or (every is not None and done % every == 0)
            if scored or round_ends or done % log_every == 0:
                values = self.progress.metrics(done) | self.selector.fractions
                if round_ends:
                    values |= self.selector.end()
                if scored:
                    with self.selector.plain():
                        values |= self._score(done if stage_ends else None)
                        self._offer(done, values)
                    self._scored = {"step": done, "values": values}
                self.progress.open_window()
                if self._told_to_stop(done, values, scored):
                    return self._outcome("stopped", values, done)
            # Last: what was measured of this step is not measured again.
            if checkpoints and save_every and done % save_every == 0 and done < self.steps:
                self._save(done, checkpoints)
        return self._outcome("complete", values, self.steps)

    def _turn(self, step: int) -> None:
        """Begin the stage, the round, or both that start at ``step``, if any do."""
        begins = stage_at(self.stages, step).start == step
        if begins:
            self._begin_stage(step)
            self.engine.detach()
            self.engine.parked.clear()
        if self.rounds.starts(step):
            self._select(step)
            if begins and step > 0 and self.config.selection.leaving == "reset":
                # What left the choice has been put back: the stage starts from another model than
                # the one whose gradients were asked.
                self._begin_stage(step)
        elif begins:
            assert self.selector.draw is not None
            self.selector.train_only(self.selector.draw)

    def _begin_stage(self, step: int) -> None:
        """Show the model to the objective of the stage that starts at ``step``."""
        base = None
        if step == 0:
            model = self.config.model
            how = f"{model.attention} {self.model.dtype}" + " liger" * model.use_liger_kernel
            base = f"{self.workspace.weights_hash(model)} {how}"
        self.documents.settle(self.ranks)
        objective, packed = stage_at(self.stages, step).objective, self.documents.packed
        with self.documents.apart():
            objective.begin(self.model, self.ranks, base, packed)

    def _select(self, step: int) -> None:
        self.selector.begin(step, self.rounds, self.feed)

    def _step(self, step: int) -> None:
        """Make an optimizer step."""
        batches = list(self.feed.passes(step))
        tokens = self.feed.tokens(step)
        flops = tokens * self.selector.flops_per_token
        self.progress.window.add(tokens, self.feed.trained(step), flops)
        stage = stage_at(self.stages, step)
        rate = stage.rate(step, self.selector.rounds[-1].step)
        units = self.feed.units(step)
        with self.documents.apart():
            found = self.engine.step(batches, stage.objective.loss, units, rate)
        self.progress.add(found, rate)

    @property
    def _sequence(self) -> TaskSequence | None:
        return self.scoring.sequence if self.scoring else None

    def _tell_start(self) -> None:
        """Report the base's scores, if the run is one of tasks in turn."""
        if self.scoring and self._sequence:
            values = base_values(self.config, self.scoring.base)
            self._told_to_stop(0, values | self._sequence.entries, scored=False)

    def _score(self, ended: int | None = None) -> dict[str, float]:
        """Score the model; as that after a stage, if one has just ended at step ``ended``."""
        assert self.scoring is not None
        scores = self._latest = self.scoring.score(self.engine.forward_model)
        if ended is None or self._sequence is None:
            return self.scoring.values(scores)
        self._sequence.add(ended, scores)
        return self.scoring.values(scores) | self._sequence.entries

    @property
    def _found(self) -> list[Candidate]:
        return self.candidates.found if self.candidates else []

    def _offer(self, done: int, values: dict[str, float]) -> None:
        """Hand a scored model to the candidates, if the run has any.

        One that has not seen all tasks of a sequence is none.
        """
        touched = self.selector.touched.parameters
        if self.candidates and done < self.steps and self._sequence is None:
            if self.candidates.take(done, values, touched):
                self._keep_items(self.candidates.found[-1].variant)
        elif self.candidates and done == self.steps:
            self.candidates.take_last(values, touched)
        if done == self.steps:
            self._keep_items(FINAL)

    def add_variants(self, outcome: Outcome, extras: Extras) -> None:
        """Score what can be made of the trained model without training; restores it."""
        selector = self.selector
        assert self.scoring is not None
        touched, last = selector.touched.parameters, selector.finish()
        maker = Maker(self.engine, selector.origin, self.catalog, last, touched)
        base = base_values(self.config, self.scoring.base)
        selection, size = self.config.selection, self.ranks.size
        outcome.variants += score_variants(
            maker, extras, selection, base, outcome, self._score_variant, size
        )

    def _score_variant(self, name: str) -> dict[str, float]:
        values = self._score()
        self._keep_items(name)
        return values

    def _keep_items(self, name: str) -> None:
        """Write the item scores of the model that was scored last."""
        if self.items is not None and self.workspace.ranks.main:
            assert self.scoring is not None
            assert self._latest is not None
            self.scoring.items(self._latest).write(self.items / f"{name}{SUFFIX}")

    def _told_to_stop(self, done: int, values: dict[str, float], scored: bool) -> bool:
        last = done == self.steps
        stop = self.report(done, values, scored, last) if self.ranks.main else False
        return self.ranks.broadcast(stop and not last)

    def _outcome(
        self, state: Literal["complete", "stopped"], values: dict[str, float], steps: int
    ) -> Outcome:
        assert self.scoring is not None
        return Outcome(
            state=state,
            values=values,
            base=base_values(self.config, self.scoring.base),
            steps=steps,
            seconds=self.progress.seconds,
            selection=self.selector.rounds,
            touched_fraction=self.selector.touched.fraction,
            variants=list(self._found),
            continual=self._sequence.to_json() if self._sequence else None,
        )
