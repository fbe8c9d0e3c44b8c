"""Section ``training`` of FILE."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hft_ray.config.sections.section import PositiveInt, Section

MOST_BETA2_IN_BF16 = 0.995
"""Of a bf16 number the last bit is worth 2^-8 to 2^-7; half of that at most is lost in rounding, so
that a moment shrinks, and its root is at most 2 % off, only if 1 - beta2 is above 2^-8."""


class Training(Section):
    """How the selected parameters are trained."""

    steps: PositiveInt | None = None
    """Optimizer steps; exclusive with epochs."""
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Passes over the data; exclusive with steps. 1 when neither is given. As many steps as hold
    epochs x examples: batches run across the epochs, and only the last one is filled up. A mixture
    or replay passes over as many examples as there are in all tasks, or in data.train."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    """Peak learning rate of AdamW."""
    batch_size: PositiveInt = 8
    """Examples per optimizer step, over all workers."""
    micro_batch_size: PositiveInt | None = None
    """Examples per forward pass of one worker; the rest is accumulated. Default: all. Without
    padding (data.packing) a pass has room for this many of data.max_length, and holds what fits."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on a GPU and with optimizer_states bf16, else fp32."""
    optimizer_states: Literal["fp32", "bf16"] = "fp32"
    """bf16: hold Adam's moments in bf16, and instead of an fp32 copy of the weights only what bf16
    loses of them (Kahan summation): 8 bytes of gradient and state per trained parameter instead of
    14. With precision bf16, without offload, and with a second of adam_betas of at most 0.995."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of matrices; norms and biases are not decayed."""
    l2_to_base: Annotated[float, Field(ge=0)] = 0.0
    """L2-SP: adds this, times half the squared distance of what is trained from its pre-trained
    values, to the loss. With zero_stage 0 to 2; holds a copy of these values on the device."""
    average: Literal["none", "ema", "sfa"] = "none"
    """What a run gives. none: the weights of its last step; ema: their exponential moving average
    over the steps, from the base on, which is also what is scored meanwhile; sfa: those of its last
    step, averaged from time to time with the weights before the run (or before the task, with tasks
    in turn). With zero_stage 0 to 2; holds 4 bytes per trained parameter (sfa: as many as a weight
    has), divided by the workers."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """ema: share of the average that is left of it after a step."""
    sfa_weight: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """sfa: share of the earlier weights in each average."""
    sfa_interval: Annotated[float, Field(gt=0, le=1)] = 0.25
    """sfa: share of the steps (of a task's, with tasks in turn) between two averages: 1 over it,
    rounded, averages at equal distances, the last one after the last step."""
    kl_to_base: Annotated[float, Field(ge=0)] = 0.0
    """Adds this, times the KL divergence of the model's predictions from the base's, to the loss of
    every trained token. Of sft alone."""
    kl_on: Literal["all", "task", "general"] = "all"
    """kl_to_base: the trained tokens with the penalty. task: not those of general data; general:
    those alone, of data.replay or of method.replay.data."""
    kl_direction: Literal["forward", "reverse"] = "forward"
    """kl_to_base: forward, KL(base || model), holds the model to all that the base finds likely;
    reverse, KL(model || base), keeps it from what the base finds unlikely."""
    kl_top: PositiveInt = 64
    """kl_to_base: tokens of the base's predictions that are kept one by one, the likeliest; all
    others count as one. Takes 8 bytes of the storage root for each of them and trained token."""
    token_weights: Literal["none", "dft", "eaft", "stm"] = "none"
    """How much each trained token counts. none: all alike; dft: as much as the model's own
    probability of it; eaft: as much as the model is unsure, by the normalised entropy of its 20
    likeliest tokens; stm: not at all where the base's perplexity is above stm_perplexity. Of sft
    alone."""
    stm_perplexity: Annotated[float, Field(gt=1)] = 2.5
    """stm: the highest perplexity of a token under the base at which it is trained."""
    adam_betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    """Decay rates of Adam's moments."""
    moments: Literal["reset", "keep_selected", "keep_all"] = "reset"
    """Adam's moments at a re-selection. reset: all start empty (the paper); keep_selected: those of
    matrices that stay selected are kept; keep_all: those of deselected matrices too, in the host's
    memory, and restored when a matrix is selected again."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Clip the gradient's norm to this; 0 does not clip."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps with a linearly rising learning rate."""
    rewarmup: Annotated[int, Field(ge=0)] = 0
    """Steps after each re-selection in which the learning rate rises again linearly."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    offload: Literal["none", "optimizer"] = "none"
    """optimizer: hold Adam's state, and update the weights, in the host's memory; slower, and saves
    8 bytes (bf16: 12) of the device's per trained parameter. With zero_stage 1 to 3."""
    seed: int = 0
    """Seed of the data order."""
    log_every: PositiveInt = 10
    """Steps between two logged training losses."""
    checkpoint_every: PositiveInt | None = None
    """Steps between two checkpoints, from which a run resumes after a crash. They are written
    while training goes on. Default: none."""
    checkpoints_kept: PositiveInt = 2
    """Checkpoints of a run to keep; older ones are deleted."""

    @model_validator(mode="after")
    def _combinations(self) -> Training:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError(
                "offload optimizer is ZeRO's: it needs a zero_stage of 1, 2 or 3, not 0"
            )
        if self.optimizer_states == "bf16":
            self._lean()
        if self.l2_to_base and self.zero_stage == 3:
            raise ValueError("l2_to_base needs a zero_stage of 0, 1 or 2, which hold whole weights")
        if self.average != "none" and self.zero_stage == 3:
            raise ValueError(
                f"average {self.average} needs a zero_stage of 0, 1 or 2, which hold whole weights"
            )
        micro = self.micro_batch_size
        if micro is not None and self.batch_size % micro:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {micro}"
            )
        return self

    def _lean(self) -> None:
        needs = []
        if self.precision == "fp32":
            needs.append("precision bf16 or auto, not fp32")
        if self.offload == "optimizer":
            needs.append("offload none: they stay on the device")
        if self.adam_betas[1] > MOST_BETA2_IN_BF16:
            needs.append(
                f"a second of adam_betas of at most {MOST_BETA2_IN_BF16}, not "
                f"{self.adam_betas[1]}: a step would change the moment by less than bf16 can hold; "
                "take for instance adam_betas [0.9, 0.99]"
            )
        if needs:
            raise ValueError(f"optimizer_states bf16 needs {'; and '.join(needs)}")

    def bf16(self, gpu: bool) -> bool:
        """Whether weights and activations are held in bf16 on a worker with or without a GPU."""
        auto = gpu or self.optimizer_states == "bf16"
        return self.precision == "bf16" or (self.precision == "auto" and auto)

    def stage(self, ranks: int) -> int:
        """ZeRO stage of an engine on so many workers.

        With bf16 states ZeRO 1 and 2 step on a bf16 copy of what is trained. On one worker they
        divide nothing, so it trains without ZeRO and without that copy.
        """
        lean = self.optimizer_states == "bf16" and ranks == 1
        return 0 if lean and self.zero_stage < 3 else self.zero_stage
