"""Section ``stages`` of FILE, and the settings of preference optimisation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hft_ray.config.sections.section import PositiveInt, Section


class Preferences(Section):
    """How answers that were chosen are preferred to rejected ones (method dpo)."""

    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """dpo: its own logistic loss, or the squared one of IPO on log-probabilities per token."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """dpo: how strongly the model is held to its reference; of IPO, tau."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """dpo, sigmoid: share of the pairs that are taken to be the wrong way round."""

    def misplaced(self, kind: str) -> list[str]:
        """Return the settings of preferences that are given, and that ``kind`` does not read."""
        fields = Preferences.model_fields
        given = [key for key, field in fields.items() if getattr(self, key) != field.default]
        if kind != "dpo":
            return given
        return ["label_smoothing"] if self.loss == "ipo" and self.label_smoothing else []


class StageEntry(Preferences):
    """One stage of ``stages``; ``KIND`` is short for ``{kind: KIND}``."""

    kind: Literal["sft", "dpo"]
    """sft: supervised fine-tuning on data.train; dpo: preference optimisation on
    data.preferences, against the model at the start of the stage."""
    steps: PositiveInt | None = None
    """Optimizer steps of the stage; by default as training says."""
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Passes over the data of the stage; by default as training says."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of the stage; by default that of training."""

    @model_validator(mode="after")
    def _one_length(self) -> StageEntry:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        return self


def short_stages(stages: Any) -> Any:
    """Return ``stages`` of FILE with every short form written out."""
    if not isinstance(stages, list):
        return stages
    return [{"kind": entry} if isinstance(entry, str) else entry for entry in stages]
