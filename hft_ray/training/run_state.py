"""The parts of a run, and how they go into a checkpoint and come back from one."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hft_ray.artifacts import Mirror
from hft_ray.config import Config
from hft_ray.config.keys import decisive
from hft_ray.selection import Draw, History, Unit
from hft_ray.training.base import known_base, run_ranks, score_base
from hft_ray.training.checkpoint import (
    RANDOM,
    STAGE,
    Checkpoint,
    CheckpointManifest,
    random_state,
    set_random_state,
)
from hft_ray.training.checkpoint_reader import CheckpointReader
from hft_ray.training.checkpoint_writer import CheckpointWriter
from hft_ray.training.documents import Documents
from hft_ray.training.engine import Engine
from hft_ray.training.feed import Feed
from hft_ray.training.forecast import make_forecast
from hft_ray.training.intermediate_models import IntermediateModels
from hft_ray.training.methods import make_stages
from hft_ray.training.numerics import Numerics
from hft_ray.training.objective import Objective
from hft_ray.training.outcome import Round, ScoredVariant
from hft_ray.training.progress import Progress
from hft_ray.training.scoring import Scoring
from hft_ray.training.selector import Selector
from hft_ray.training.source_importance import source_norms
from hft_ray.training.stage import Rounds, identity, stage_at
from hft_ray.training.utilisation import peak_flops
from hft_ray.training.variant_builder import RunArtifacts
from hft_ray.training.weight_shares import KIND
from hft_ray.training.workspace import Workspace

log = logging.getLogger(__name__)


class RunState:
    """What one run is made of while it goes. Methods are collectives.

    Args:
        config: FILE without ``search``.
        workspace: Where the run takes place.
        model: The base model.
        numerics: Device and type.
        wanted: What to keep and make beside the last model.

    Attributes:
        steps: Optimizer steps of the whole run.
        scoring: Scores models against the base; None until :meth:`score_base`.
        scored: The last report with scores, ``step`` and ``values``.
        forecast: Measures how far the model has moved on the task's examples, if FILE asks for it.
    """

    def __init__(
        self,
        config: Config,
        workspace: Workspace,
        model: nn.Module,
        numerics: Numerics,
        wanted: RunArtifacts | None,
    ) -> None:
        self.config, self.workspace, self.model = config, workspace, model
        self.ranks = run_ranks(config, workspace)
        self.engine = Engine(model, config.training, numerics, self.ranks)
        self.weights = workspace.weights_hash(config.model)
        self.intermediate = (
            IntermediateModels(wanted, model, self.weights, self.ranks) if wanted else None
        )
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
        self.scored: dict[str, Any] | None = None
        self.forecast = make_forecast(config, workspace, self.ranks)

    @property
    def found(self) -> list[ScoredVariant]:
        """The intermediate models that may be on the front."""
        return self.intermediate.found if self.intermediate else []

    def begin_stage(self, step: int) -> None:
        """Show the model to the objective of the stage that starts at ``step``.

        The first model is shown to all objectives that are about the base.
        """
        beginning = [stage_at(self.stages, step).objective]
        if step == 0:
            beginning += [each.objective for each in self.stages[1:] if each.objective.of_base]
        elif beginning[0].of_base:
            return
        self._show(beginning, untouched=step == 0)

    @property
    def _base(self) -> str:
        """What the untouched base is: its weights and number format."""
        model = self.config.model
        how = f"{model.attention} {self.model.dtype}" + " liger" * model.use_liger_kernel
        return f"{self.weights} {how}"

    def _show(self, objectives: Sequence[Objective], untouched: bool) -> None:
        if not objectives:
            return
        base = self._base if untouched else None
        self.documents.settle(self.ranks)
        packed = self.documents.packed
        with self.documents.apart():
            for each in objectives:
                each.begin(self.model, self.ranks, base, packed)

    def score_base(self) -> None:
        """Take the base's scores from the store, or score the model, which must be the base."""
        config, workspace = self.config, self.workspace
        base = known_base(config, workspace)
        with self.selector.plain():
            if base is None:
                base = score_base(config, workspace, self.engine.forward_model, self.ranks)
            if self.forecast:
                self.forecast.ask(self.engine.forward_model, self._base)
        self.scoring = Scoring(config, workspace, self.ranks, base)

    def source_norms(self, units: Sequence[Unit]) -> dict[str, float]:
        """Return how much each unit matters for general data; the model must be the base."""
        return source_norms(self.config, self.workspace, self.model, self._base, units, self.ranks)

    def step(self, number: int) -> None:
        """Make the optimizer step ``number``, from 0."""
        feed, stage = self.feed, stage_at(self.stages, number)
        batches, tokens = list(feed.passes(number)), feed.tokens(number)
        flops = tokens * self.selector.flops_per_token
        self.progress.window.add(tokens, feed.trained(number), flops)
        rate = stage.rate(number, self.selector.rounds[-1].step)
        with self.documents.apart():
            found = self.engine.step(batches, stage.objective.loss, feed.units(number), rate)
        self.selector.stepped(stage, number + 1)
        self.progress.add(found, rate)

    def save(self, done: int, writer: CheckpointWriter) -> None:
        """Have a checkpoint written after ``done`` steps."""
        assert self.selector.draw is not None
        state = random_state(self.workspace.device)
        tensors = itertools.chain(
            self.engine.parts(self.selector.trained),
            self.selector.beside.parts() if self.selector.beside else (),
            self._of_stage(done) if self.ranks.main else (),
            [(f"{RANDOM}{self.ranks.rank}", state)],
        )
        writer.save(self._manifest(done, self.selector.draw), tensors)

    def _manifest(self, done: int, drawn: Draw) -> CheckpointManifest:
        selector = self.selector
        sequence = self.scoring.sequence if self.scoring else None
        return CheckpointManifest(
            step=done,
            model=self.weights,
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
            variants=[asdict(each) for each in self.found],
            sequence=[asdict(row) for row in sequence.rows] if sequence else [],
            ranks=self.ranks.size,
            scored=self.scored,
            **self.progress.state(),
        )

    def _of_stage(self, done: int) -> Iterator[tuple[str, Tensor]]:
        """Yield what the objective of the stage under way keeps.

        The first stage's objective asks the base again, and a stage that has not begun has nothing.
        """
        stage = stage_at(self.stages, done)
        if 0 < stage.start < done:
            for name, tensor in stage.objective.state().items():
                yield f"{STAGE}{name}", tensor

    def resume(self, folder: Path, mirror: Mirror | None) -> int:
        """Go on from the newest whole checkpoint in ``folder``; return the steps made, 0 if none.

        Raises:
            CheckpointError: It is of another model, other settings or another selection.
            MirrorError: The mirror does not answer, and the folder has no checkpoint.
        """
        reader = CheckpointReader(self.ranks, self.workspace.device, self.engine.spans())
        found, problems = reader.newest(folder, mirror)
        for problem in problems:
            log.warning("%s", problem)
        if found is None:
            log.info("no checkpoint in %s: starting afresh", folder)
            return 0
        drawn = self._drawn_by(found)
        log.info("resuming from %s, step %d of %d", found.path, found.manifest.step, self.steps)
        self._ask_base(found, drawn)
        self._restore(found, drawn)
        return found.manifest.step

    def _drawn_by(self, found: Checkpoint) -> Draw:
        """Return what a checkpoint trains; refuse one of another run."""
        found.refuse_other_run(self.weights, identity(self.stages), decisive(self.config))
        self.selector.history = History(**found.manifest.history)
        drawn = self.selector.drawn(found.manifest.round)
        found.refuse_other_draw(drawn)
        return drawn

    def _ask_base(self, found: Checkpoint, drawn: Draw) -> None:
        """Learn from the model all that only the base can tell, while it still is the base."""
        self.selector.snapshot.remember(found.manifest.touched)
        self.engine.attach(drawn)
        self.score_base()
        ahead = [stage for stage in self.stages if stage.end > found.manifest.step]
        of_base = [each.objective for each in ahead if each.start == 0 or each.objective.of_base]
        self._show(of_base, untouched=True)
        self.engine.close()

    def _restore(self, found: Checkpoint, drawn: Draw) -> None:
        """Make the model that of the checkpoint, and all else what it was then."""
        manifest, stage = found.manifest, stage_at(self.stages, found.manifest.step)
        averages = {key: x for key, x in found.state.items() if key.startswith(f"{KIND}/")}
        if self.selector.beside:
            self.selector.beside.restore(averages)
        others = {key: x for key, x in found.state.items() if key not in averages}
        self.engine.restore(others, manifest.steps)
        rounds = [Round(**each) for each in manifest.rounds]
        self.selector.restore(drawn, manifest.touched, rounds)
        self.progress.restore(manifest.losses, manifest.seconds)
        self.scored = manifest.scored
        if self.scoring and self.scoring.sequence:
            self.scoring.sequence.restore(manifest.sequence)
        if self.intermediate:
            self.intermediate.found = [ScoredVariant(**each) for each in manifest.variants]
        if 0 < stage.start < manifest.step:
            kept = (each for each in found.beside.items() if each[0].startswith(STAGE))
            stage.objective.restore({name.removeprefix(STAGE): x for name, x in kept})
        if manifest.ranks == self.ranks.size:
            set_random_state(self.workspace.device, found.beside[f"{RANDOM}{self.ranks.rank}"])
