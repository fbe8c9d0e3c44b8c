"""Half fine-tuning in the ``Trainer`` of transformers and in the trainers of TRL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import has_length

from hft_ray.config import ConfigError, Problem, Selection
from hft_ray.config.load import validate_section
from hft_ray.integrations.optimizer import PartialOptimizer
from hft_ray.integrations.rounds import TrainerRounds
from hft_ray.integrations.trainer_checks import check_arguments, check_selection
from hft_ray.selection import FrozenChangedError, Schedule

__all__ = ["FrozenChangedError", "HalfFineTuningCallback"]


class HalfFineTuningCallback(TrainerCallback, ExportableState):
    """Trains a part of the model at a time, the part that ``hft-ray train`` would draw.

    Give the trainer a model with nothing frozen: its optimizer then has all parameters, and this
    callback reduces it to the selected ones, at the start and at every re-selection. Checkpoints of
    the trainer hold all that a resume needs. Logs have ``selection/trainable_fraction`` and
    ``selection/touched_fraction``. After the training nothing is frozen.

    Args:
        selection: How to draw, as the section ``selection`` of FILE.
        moments: The optimizer's moments at a re-selection, as ``training.moments`` of FILE.
        round: Number of the first round. A later stage or task draws anew with a number that the
            earlier ones did not reach.

    Raises:
        ConfigError: The selection is not valid, or not possible in a trainer.
    """

    def __init__(
        self,
        selection: Selection | Mapping[str, Any],
        *,
        moments: Literal["reset", "keep_selected", "keep_all"] = "reset",
        round: int = 0,
    ) -> None:
        if not isinstance(selection, Selection):
            selection = validate_section(Selection, selection)
        check_selection(selection)
        self.selection, self.moments, self.round = selection, moments, round
        self.record: dict[str, Any] = {}
        self._rounds: TrainerRounds | None = None

    def state(self) -> dict[str, Any]:
        """Return what the trainer's checkpoints keep: the settings, and the round at hand."""
        settings = {
            "selection": self.selection.model_dump(mode="json"),
            "moments": self.moments,
            "round": self.round,
        }
        record = self._rounds.record if self._rounds else self.record
        return {"args": settings, "attributes": {"record": record}}

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the training arguments before anything is trained."""
        check_arguments(args)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module,
        optimizer: Any,
        train_dataloader: Any,
        **kwargs: Any,
    ) -> None:
        """Select for the first step; after a resume, what was selected in the last step."""
        check_arguments(args)
        if self._rounds is not None:
            # An earlier training was interrupted, or the trainer retries with smaller batches.
            self._rounds.end()
        schedule = Schedule(self.selection.reselect, self._steps_per_epoch(args, train_dataloader))
        partial = PartialOptimizer(_unwrapped(optimizer), self.moments)
        rounds = TrainerRounds(model, partial, self.selection, schedule, self.round)
        if state.global_step:
            rounds.resume(state.global_step, self._saved(state))
        else:
            rounds.begin()
        self._rounds = rounds

    def _steps_per_epoch(self, args: TrainingArguments, dataloader: Any) -> int:
        """Return the optimizer steps of one epoch, as ``Trainer`` counts them."""
        if has_length(dataloader):
            return max(1, -(-len(dataloader) // args.gradient_accumulation_steps))
        if self.selection.reselect == "epoch":
            problem = "the data has no length, and so no epochs; give a number of steps"
            raise ConfigError(Problem("selection.reselect", problem, self.selection.reselect))
        return 1

    def _saved(self, state: TrainerState) -> dict[str, Any]:
        """Return the record in the checkpoint that the trainer goes on from."""
        saved = state.stateful_callbacks.get(type(self).__name__, {})
        record: dict[str, Any] = saved.get("attributes", {}).get("record", {})
        if not record:
            problem = "the checkpoint is of a training without this callback"
            raise ConfigError(Problem("resume_from_checkpoint", problem))
        settings = self.state()["args"]
        for key in ("selection", "moments", "round"):
            if saved["args"][key] != settings[key]:
                problem = f"is not that of the checkpoint, {saved['args'][key]!r}"
                raise ConfigError(Problem(key, problem, settings[key]))
        return record

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw again where a round begins."""
        assert self._rounds is not None
        self._rounds.at(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Add the selection's numbers to a log made while training."""
        if self._rounds is not None:
            logs.update(self._rounds.values)
            # The trainer has noted a copy already.
            state.log_history[-1].update(self._rounds.values)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the frozen parameters of the last round, before the best model may be loaded."""
        assert self._rounds is not None
        if control.should_training_stop or state.global_step >= state.max_steps:
            self._rounds.prove()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Unfreeze the model and restore the optimizer."""
        if self._rounds is not None:
            self.record = self._rounds.record
            self._rounds.end()
            self._rounds = None


def _unwrapped(optimizer: Any) -> Optimizer:
    """Return torch's optimizer in accelerate's.

    Raises:
        ConfigError: It is not one, or holds other weights in training than in evaluation.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(inner, Optimizer) or hasattr(inner, "eval"):
        problem = "must be a torch optimizer that steps the model's weights themselves"
        raise ConfigError(Problem("optim", problem, type(inner).__name__))
    return inner
