"""One fine-tuning run: draw, train, draw again, evaluate, report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import torch

from hft_ray.artifacts import Mirror
from hft_ray.config import Config
from hft_ray.evaluation import Scores, TaskSequence
from hft_ray.item_scores import SUFFIX
from hft_ray.training.causal import require_causal
from hft_ray.training.checkpoint_writer import CheckpointWriter, checkpoint_writer
from hft_ray.training.garbage import only_new_garbage
from hft_ray.training.intermediate_models import FINAL
from hft_ray.training.models import recompute_activations
from hft_ray.training.numerics import Numerics
from hft_ray.training.outcome import Outcome, Report
from hft_ray.training.run_state import RunState
from hft_ray.training.save_model import save_model
from hft_ray.training.scoring import Scoring, base_values
from hft_ray.training.stage import stage_at
from hft_ray.training.variant_builder import RunArtifacts, VariantBuilder, score_variants
from hft_ray.training.workspace import Workspace


@only_new_garbage()
def run(
    config: Config,
    workspace: Workspace,
    report: Report,
    save_to: Path | None = None,
    checkpoints: Path | None = None,
    wanted: RunArtifacts | None = None,
    mirror: Mirror | None = None,
    saved: Callable[[int], None] = lambda step: None,
    doing: Callable[[str], None] = lambda phase: None,
    items: Path | None = None,
) -> Outcome:
    """Fine-tune the base model as ``config`` says (a collective over the workspace's ranks).

    Args:
        config: FILE without ``search``.
        workspace: Where to run.
        report: Is given the training loss and the scores as they come; may ask to stop.
        save_to: Write the trained model there as a Hugging Face directory.
        checkpoints: Folder of the run's checkpoints, for ``training.checkpoint_every``; the run
            goes on from the newest one there that is whole.
        wanted: What to keep and make beside the last model.
        mirror: Where the checkpoints are copied to, and fetched from when the folder lacks them.
        saved: Called with the step of every checkpoint, on rank 0, from another thread.
        doing: Called with what the run does from now on, in a few words; on rank 0.
        items: Folder for the scores of single items: a file for the trained model, and one for
            each variant.

    Raises:
        TrainingError: The loss is not finite.
        CheckpointError: The checkpoint is of another run.
        MirrorError: The mirror does not answer.
    """
    numerics = Numerics.of(config.training, workspace.device)
    torch.manual_seed(config.training.seed)
    with workspace.model(config, numerics) as model:
        state = RunState(config, workspace, model, numerics, wanted)
        if config.training.gradient_checkpointing:
            recompute_activations(model)
        try:
            start = state.resume(checkpoints, mirror) if checkpoints else 0
            one = _Run(state, report, items, doing)
            keep = config.training.checkpoints_kept
            with (
                checkpoint_writer(checkpoints, keep, state.ranks, mirror, saved)
                if checkpoints and config.training.checkpoint_every
                else nullcontext()
            ) as writer:
                outcome = one.train(start, writer)
            if save_to is not None:
                with state.selector.plain():
                    save_model(model, workspace.tokenizer(config.model), save_to, workspace.ranks)
            if wanted is not None and outcome.state == "complete":
                one.add_variants(outcome, wanted)
        finally:
            state.engine.close()
    return outcome


class _Run:
    """The loop over the steps of a run.

    Args:
        state: The parts of the run.
        report: See :func:`run`.
        items: Folder for the scores of single items.
        doing: See :func:`run`.
    """

    def __init__(
        self, state: RunState, report: Report, items: Path | None, doing: Callable[[str], None]
    ) -> None:
        self._state, self._report, self._items, self._doing = state, report, items, doing
        self._config, self._ranks = state.config, state.ranks
        self._values: dict[str, float] = {}
        self._latest: Scores | None = None

    def train(self, start: int, writer: CheckpointWriter | None) -> Outcome:
        """Make every step from ``start`` on; evaluate at the asked ones and after each stage.

        Args:
            start: Steps that a checkpoint has behind it.
            writer: Writes checkpoints; None for none.
        """
        state = self._state
        if start == 0:
            self._begin()
        elif self._stopped_before():
            return self._outcome("stopped", start)
        require_causal(state.engine.forward_model, self._config.model.name)
        state.documents.settle(self._ranks)
        self._tell("training")
        state.progress.open_window()
        save_every = self._config.training.checkpoint_every
        for step in range(start, state.steps):
            done = step + 1
            if step > 0:
                self._turn(step)
            state.step(step)
            if self._reports(done):
                return self._outcome("stopped", done)
            # Last: what was measured of this step is not measured again.
            if writer and save_every and done % save_every == 0 and done < state.steps:
                state.save(done, writer)
        return self._outcome("complete", state.steps)

    def _begin(self) -> None:
        """Draw for the first round, and score the base."""
        state = self._state
        # A draw by gradients needs the objective. ZeRO-3 has no such draw, and a model that runs
        # only under an engine.
        partitioned = self._config.training.zero_stage == 3
        if not partitioned:
            state.begin_stage(0)
        self._select(0)
        if partitioned:
            state.begin_stage(0)
        state.score_base()
        if sequence := self._sequence:
            values = base_values(self._config, self._scoring.base)
            self._told_to_stop(0, values | sequence.entries, scored=False)

    def _stopped_before(self) -> bool:
        """Give the last report with scores again: a killed process may not have heard the answer.

        Returns:
            Whether to stop.
        """
        scored = self._state.scored
        if scored is None or not self._told_to_stop(scored["step"], scored["values"], scored=True):
            return False
        self._values = scored["values"]
        return True

    def _turn(self, step: int) -> None:
        """Begin the stage, the round, or both that start at ``step``, if any do."""
        state = self._state
        begins = stage_at(state.stages, step).start == step
        if begins:
            state.begin_stage(step)
            state.engine.detach()
            state.engine.parked.clear()
            state.selector.begin_stage()
        if state.rounds.starts(step):
            self._select(step)
            if begins and self._config.selection.on_deselect == "reset":
                # Parameters that are no longer selected have the base's values again: the stage
                # starts from another model than the one that the objective was shown.
                state.begin_stage(step)
        elif begins:
            assert state.selector.draw is not None
            state.selector.train_only(state.selector.draw)

    def _select(self, step: int) -> None:
        state = self._state
        state.selector.begin(step, state.rounds, state.feed, state.source_norms)

    def _reports(self, done: int) -> bool:
        """Report what is due after ``done`` steps; return whether to stop."""
        state, every = self._state, self._config.evaluation.every
        stage_ends = done == stage_at(state.stages, done - 1).end
        round_ends = stage_ends or state.rounds.starts(done)
        scored = stage_ends or (every is not None and done % every == 0)
        if not (scored or round_ends or done % self._config.training.log_every == 0):
            return False
        values = state.progress.metrics(done) | state.selector.fractions
        if round_ends:
            values |= state.selector.end()
        if scored:
            self._tell("scoring")
            with state.selector.plain():
                values |= self._score(done if stage_ends else None)
                self._offer(done, values)
            state.scored = {"step": done, "values": values}
            self._tell("training")
        state.progress.open_window()
        self._values = values
        return self._told_to_stop(done, values, scored)

    def _told_to_stop(self, done: int, values: dict[str, float], scored: bool) -> bool:
        last = done == self._state.steps
        stop = self._report(done, values, scored, last) if self._ranks.main else False
        return self._ranks.broadcast(stop and not last)

    def _tell(self, phase: str) -> None:
        if self._ranks.main:
            self._doing(phase)

    @property
    def _scoring(self) -> Scoring:
        assert self._state.scoring is not None
        return self._state.scoring

    @property
    def _sequence(self) -> TaskSequence | None:
        return self._scoring.sequence

    def _score(self, ended: int | None = None) -> dict[str, float]:
        """Score the model; as that after a stage, if one has just ended at step ``ended``."""
        model, forecast = self._state.engine.forward_model, self._state.forecast
        scores = self._latest = self._scoring.score(model)
        forecasts = forecast.measure(model) if forecast else {}
        if ended is None or self._sequence is None:
            return self._scoring.values(scores) | forecasts
        self._sequence.add(ended, scores)
        return self._scoring.values(scores) | forecasts | self._sequence.entries

    def _offer(self, done: int, values: dict[str, float]) -> None:
        """Offer a scored model to those that the run keeps, if it keeps any.

        A model that has not seen all tasks of a sequence is not offered.
        """
        state, models = self._state, self._state.intermediate
        touched = state.selector.touched.parameters
        if models and done < state.steps and self._sequence is None:
            if models.take(done, values, touched):
                self._keep_items(models.found[-1].variant)
        elif models and done == state.steps:
            models.take_last(values, touched)
        if done == state.steps:
            self._keep_items(FINAL)

    def add_variants(self, outcome: Outcome, wanted: RunArtifacts) -> None:
        """Score what can be made of the trained model without training; restores it."""
        state, config = self._state, self._config
        self._tell("scoring variants")
        touched, last = state.selector.touched.parameters, state.selector.finish()
        snapshot = state.selector.snapshot
        builder = VariantBuilder(state.engine, snapshot, state.catalog, last, touched)
        base = base_values(config, self._scoring.base)

        def score(name: str) -> dict[str, float]:
            values = self._score()
            self._keep_items(name)
            return values

        outcome.variants += score_variants(
            builder, wanted, config.selection, base, outcome, score, self._ranks.size
        )

    def _keep_items(self, name: str) -> None:
        """Write the item scores of the model that was scored last."""
        if self._items is not None and self._state.workspace.ranks.main:
            assert self._latest is not None
            self._scoring.items(self._latest).write(self._items / f"{name}{SUFFIX}")

    def _outcome(self, how: Literal["complete", "stopped"], steps: int) -> Outcome:
        selector, sequence = self._state.selector, self._sequence
        return Outcome(
            state=how,
            values=self._values,
            base=base_values(self._config, self._scoring.base),
            steps=steps,
            seconds=self._state.progress.seconds,
            selection=selector.rounds,
            touched_fraction=selector.touched.fraction,
            variants=list(self._state.found),
            continual=sequence.to_json() if sequence else None,
        )
