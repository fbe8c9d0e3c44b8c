"""What a run trains from round to round: drawn, given to the engine; the rest is audited."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace

from torch import nn

from hft_ray.config import Config
from hft_ray.ranks import Ranks
from hft_ray.selection import Catalog, Draw, History, Touched, Unit, draw, needs, pool
from hft_ray.training.audit import Audit
from hft_ray.training.base_snapshot import BaseSnapshot
from hft_ray.training.earlier_checkpoint import EarlierCheckpoint
from hft_ray.training.engine import Engine
from hft_ray.training.feed import Feed
from hft_ray.training.gradient_norms import gradient_norms
from hft_ray.training.lora import Lora
from hft_ray.training.moving_average import MovingAverage
from hft_ray.training.outcome import Round
from hft_ray.training.stage import Rounds, Stage
from hft_ray.training.utilisation import flops_per_token
from hft_ray.training.weight_shares import WeightShares

Source = Callable[[Sequence[Unit]], dict[str, float]]
"""Units -> L2 norm of each one's gradient at the base, on general data."""


class Selector:
    """The selection of a run as it goes. Methods are collectives.

    Args:
        config: FILE.
        model: The model; with ``adapter`` it is given one.
        catalog: Its units.
        engine: Trains what is drawn.
        ranks: The processes that train together.

    Attributes:
        draw: What is trained now; None before the first round.
        rounds: The draws so far, as in ``result.json``.
        history: What the draw depended on.
        touched: What any draw so far has trained.
        snapshot: The base's values of that.
        average: The average of the weights, if it is what a run gives.
        earlier: The weights before the stage, if those of the run are averaged with them.
        flops_per_token: Floating point operations per token of a step that trains ``draw``.
    """

    def __init__(
        self, config: Config, model: nn.Module, catalog: Catalog, engine: Engine, ranks: Ranks
    ) -> None:
        selection = config.selection
        self._selection, self._model, self._catalog = selection, model, catalog
        self._engine, self._ranks = engine, ranks
        self._l2 = config.training.l2_to_base > 0
        self._audit = Audit(model, ranks) if selection.audit else None
        self.draw: Draw | None = None
        self.flops_per_token = 0.0
        self.rounds: list[Round] = []
        self.history = History()
        self.touched = Touched(catalog)
        self.snapshot = BaseSnapshot(model, catalog, ranks)
        # Last: what is above knows the model's parameters by their names without adapters.
        self._adapter: Lora | None = None
        if config.adapter.kind == "lora":
            self._adapter = Lora(model, config.adapter, catalog, config.training.seed)
        self.average: MovingAverage | None = None
        if config.training.average == "ema":
            self.average = MovingAverage(model, config.training.ema_decay, ranks)
        self.earlier: EarlierCheckpoint | None = None
        if config.training.average == "sfa":
            training = config.training
            self.earlier = EarlierCheckpoint(
                model, training.sfa_weight, training.sfa_interval, ranks
            )

    @property
    def fractions(self) -> dict[str, float]:
        """How much is trained now, and was in any round, as metrics."""
        assert self.draw is not None
        return self.touched.metrics(self.draw)

    @property
    def trained(self) -> Collection[str]:
        """Names of the parameters that training has changed: adapters, or all that was drawn."""
        return self._adapter.draw.parameters if self._adapter else self.touched.parameters

    @property
    def beside(self) -> WeightShares | None:
        """What is held beside the weights, if anything is."""
        return self.average or self.earlier

    def begin_stage(self) -> None:
        """Begin a stage that is not the first."""
        if self.earlier:
            self.earlier.renew()

    def stepped(self, stage: Stage, done: int) -> None:
        """Average weights, if that is asked for, after ``done`` steps of the run."""
        if self.average:
            self.average.update()
        if self.earlier and self.earlier.due(stage, done):
            assert self.draw is not None
            self._engine.move(self.draw, self.earlier.averaged)

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Make the model one that can be scored, kept and saved, for as long as it lasts."""
        average, adapter = self.average, self._adapter
        with (
            average.in_place() if average else nullcontext(),
            adapter.merged() if adapter else nullcontext(),
        ):
            yield

    def finish(self) -> Draw:
        """Make the model plain for good, after training; return what was trained last."""
        assert self.draw is not None
        self.earlier = None
        if self.average:
            self._engine.close()
            self.average.put()
            self.average = None
        if self._adapter:
            self._engine.close()
            self.draw = self._adapter.finish(self._catalog)
            self._adapter = None
        return self.draw

    def drawn(self, number: int) -> Draw:
        """Return what is trained in a round, given the history."""
        if self._adapter:
            return replace(self._adapter.draw, round=number)
        return draw(self._catalog, self._selection, number, self.history)

    def begin(self, step: int, rounds: Rounds, feed: Feed, source: Source) -> None:
        """Draw for the round that starts at ``step`` and train that draw from now on.

        Args:
            step: The step.
            rounds: The rounds of the run.
            feed: Its batches.
            source: Measures the base on general data.
        """
        self._engine.detach()
        before = self.draw
        past = self.history.after(before.units) if before else History()
        self.history = replace(past, measures=self._measures(step, feed, source))
        drawn = self.drawn(rounds.number(step))
        if before and self._selection.on_deselect == "reset":
            left = sorted(set(before.parameters) - set(drawn.parameters))
            self.snapshot.put_back(left)
            self._engine.forget(left)
            if self.beside:
                self.beside.forget(left)
        self.touched.add(drawn)
        fractions = asdict(drawn.fractions)
        touched = self.touched.fraction
        self.rounds.append(
            Round(drawn.round, step, drawn.hash, fractions, touched_fraction=touched)
        )
        self.snapshot.remember(name for unit in drawn.units for name in unit.parameters)
        self.train_only(drawn)

    def restore(self, drawn: Draw, touched: Collection[str], rounds: list[Round]) -> None:
        """Train ``drawn`` as in the middle of a round.

        Args:
            drawn: What the round trains.
            touched: Parameters that any draw so far has trained.
            rounds: The draws so far.
        """
        self.touched.restore(touched)
        self.train_only(drawn)
        self.rounds = rounds

    def train_only(self, drawn: Draw) -> None:
        """Train ``drawn`` from now on, and watch the rest."""
        self.draw = drawn
        self.flops_per_token = flops_per_token(self._model, frozenset(drawn.parameters))
        if self._audit:
            self._audit.start(drawn.parameters)
        if self._l2:
            self._engine.set_penalty_target(self.snapshot.on_device(drawn.parameters))
        if self.beside:
            self.beside.follow(drawn.parameters)
        self._engine.select(drawn)

    def _measures(self, step: int, feed: Feed, source: Source) -> dict[str, float]:
        """Return what the strategy draws by, for a round that starts at ``step``."""
        units = pool(self._catalog, self._selection)
        match "nothing" if self._adapter else needs(self._selection):
            case "gradient":
                coming = feed.coming(step, self._selection.probe)
                return gradient_norms(self._model, units, coming, self._ranks)
            case "importance":
                # Of the base: the first round's are those of all.
                return dict(self.history.measures) or source(units)
            case "drift":
                return self.snapshot.drifts()
            case "nothing":
                return {}

    def end(self) -> dict[str, float]:
        """Prove that frozen parameters have not changed; return how far the others have moved."""
        if self._audit is None:
            return {}
        self._audit.prove()
        with self.plain():
            distances = self.snapshot.distances()
        self.rounds[-1] = replace(self.rounds[-1], distances=distances)
        return {f"distance/{category}": x for category, x in distances.items()}
