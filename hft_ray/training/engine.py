"""A DeepSpeed engine over a chosen share of the parameters, and how the choice is changed.

DeepSpeed optimises what requires a gradient when ``initialize`` is called and nothing else; a later
toggle is silently wrong in every ZeRO stage. So the choice is fixed first, then the engine built,
and another choice is another engine on the same module.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor, nn

from hft_ray.compat.deepspeed import destroy, import_muon_uncompiled, link_states
from hft_ray.config import Training
from hft_ray.ranks import Ranks
from hft_ray.selection import Draw, apply
from hft_ray.selection.anatomy import shape, size
from hft_ray.training.kahan import KahanAdamW
from hft_ray.training.moments import (
    Moments,
    change_weights,
    held_state,
    own_part,
    own_parts,
    put,
    set_steps,
    take,
)
from hft_ray.training.numerics import Numerics, deepspeed_config, plain
from hft_ray.training.objective import Batch, LossFunction
from hft_ray.training.partitioned import at_rest, held, held_span
from hft_ray.training.penalty import half_square
from hft_ray.training.tensor_parts import part_name


class Engine:
    """Trains the parameters of one draw at a time on one module.

    Args:
        model: The module; its weights are trained in place.
        training: The section of FILE.
        numerics: Device and type.
        ranks: The processes that train together.
    """

    def __init__(
        self, model: nn.Module, training: Training, numerics: Numerics, ranks: Ranks
    ) -> None:
        self.model = model
        self._training = training
        self._numerics = numerics
        self._ranks = ranks
        self._plain = plain(training, numerics, ranks.size)
        self._deepspeed: Any = None
        self._steps: dict[str, int] = {}
        self.parked: dict[str, Moments] = {}
        self._penalty_target: dict[str, Tensor] = {}
        self._norm: Tensor | None = None

    def set_penalty_target(self, base: Mapping[str, Tensor]) -> None:
        """Set the base's values of what is selected, on the device, for ``training.l2_to_base``."""
        self._penalty_target = dict(base)

    def select(self, draw: Draw) -> None:
        """Train the parameters of ``draw`` from now on (a collective).

        ``training.moments`` says what becomes of Adam's state: with ``reset`` all start empty, with
        ``keep_selected`` those that stay selected keep theirs, with ``keep_all`` those that were
        selected before get theirs back.
        """
        self.detach()
        chosen = set(draw.parameters)
        leaving = {name: kept for name, kept in self.parked.items() if name not in chosen}
        for name, kept in leaving.items():
            if self._training.moments == "keep_selected":
                del self.parked[name]
            else:
                self.parked[name] = kept.on_cpu()
        apply(self.model, draw)
        groups = self._groups(draw)
        trained = sum(size(each) for group in groups for each in group.parameters.values())
        import_muon_uncompiled()
        self._deepspeed, *_ = deepspeed.initialize(
            model=self.model,
            optimizer=self._optimizer(groups),
            config=deepspeed_config(self._training, self._numerics, self._ranks.size, trained),
            dist_init_required=False,
        )
        self._steps = {name: group.steps for group in groups for name in group.parameters}
        if any(self._steps.values()) and not self._plain:
            self._dry_step()
        self._restore(groups)

    def detach(self) -> None:
        """Take the engine off the module, as :meth:`close`, and keep what :meth:`select` may need.

        In between the module is one of torch alone. A collective.
        """
        if self._deepspeed is None:
            return
        if self._training.moments != "reset":
            self._park()
        self.close()

    def _park(self) -> None:
        """Take the state of what is trained out of the engine."""
        link_states(self._deepspeed)
        for name, parameter in self.model.named_parameters():
            if steps := self._steps.get(name, 0):
                # Out of an optimizer over the parameters it goes into the next one as it is.
                self.parked[name] = take(self._deepspeed, parameter, steps, copy=not self._plain)

    def move(self, draw: Draw, value: Callable[[str, Tensor], Tensor]) -> None:
        """Give what is trained other values between two steps; Adam's moments stay.

        A collective below ZeRO-3. One parameter after the other, so it needs next to no memory.

        Args:
            draw: What is trained, and has made a step.
            value: Name of a parameter and its values -> its new ones; called in one order on all
                ranks.
        """
        link_states(self._deepspeed)
        chosen = set(draw.parameters)
        for name, parameter in self.model.named_parameters():
            if name in chosen:
                change_weights(self._deepspeed, parameter, partial(value, name))

    def forget(self, names: Iterable[str]) -> None:
        """Drop what :meth:`detach` kept of parameters that were given other values since."""
        for name in names:
            self.parked.pop(name, None)

    def _groups(self, draw: Draw) -> list[_Group]:
        """Return optimizer groups: by weight decay (matrices alone) and by steps seen."""
        groups: dict[tuple[bool, int], _Group] = {}
        chosen = set(draw.parameters)
        for name, parameter in self.model.named_parameters():
            if name not in chosen:
                continue
            matrix = len(shape(parameter)) > 1
            parked = self.parked.get(name)
            steps = parked.steps if parked else 0
            decay = self._training.weight_decay if matrix else 0.0
            group = groups.setdefault((not matrix, -steps), _Group(decay, steps, {}))
            group.parameters[name] = parameter
        return [group for _, group in sorted(groups.items(), key=lambda item: item[0])]

    def _optimizer(self, groups: list[_Group]) -> torch.optim.Optimizer:
        parameters = [{"params": list(group.parameters.values())} for group in groups]
        betas = self._training.adam_betas
        # Some of DeepSpeed's optimizers make a step while they are built, which must not move or
        # decay anything; step() sets the rate.
        optimizer: torch.optim.Optimizer
        if self._training.optimizer_states == "bf16":
            optimizer = KahanAdamW(parameters, lr=0.0, weight_decay=0.0, betas=betas)
        else:
            optimizer = torch.optim.AdamW(
                parameters, lr=0.0, weight_decay=0.0, betas=betas, fused=True
            )
        if self._plain:
            optimizer.register_step_pre_hook(lambda *_: self._clip())
        return optimizer

    def _clip(self) -> None:
        """Measure the norm of the gradients, and clip it.

        DeepSpeed's own way makes an fp32 copy of each gradient, and keeps the norm to itself.
        """
        trained = [each for each in self.model.parameters() if each.grad is not None]
        norms = [torch.linalg.vector_norm(each.grad, dtype=torch.float32) for each in trained]
        self._norm = torch.linalg.vector_norm(torch.stack(norms))
        if most := self._training.max_grad_norm:
            nn.utils.clip_grads_with_norm_(trained, most, self._norm)

    def _restore(self, groups: list[_Group]) -> None:
        """Give the new engine the parked state, the step counts and the weight decay."""
        link_states(self._deepspeed)
        for group in groups:
            for name, parameter in group.parameters.items():
                if name in self.parked:
                    put(self._deepspeed, parameter, self.parked[name], self._plain)
        set_steps(self._deepspeed, [group.steps for group in groups])
        for built, group in zip(self._deepspeed.optimizer.param_groups, groups, strict=True):
            built["weight_decay"] = group.weight_decay
        # What is in the engine now comes back with :meth:`detach`.
        for name in list(self.parked):
            if self._training.moments != "keep_all" or (self._plain and name in self._steps):
                del self.parked[name]

    def _dry_step(self) -> None:
        """Have ZeRO or bf16 make its optimizer state, as in a first step (a collective).

        Learning rate, weight decay and gradients are zero: nothing changes, moments come out empty.
        """
        engine = self._deepspeed
        ids = torch.zeros((1, 2), dtype=torch.long, device=self._numerics.device)
        engine.set_gradient_accumulation_boundary(True)
        engine.backward(engine(input_ids=ids, use_cache=False).logits.float().sum() * 0.0)
        engine.step()

    def step(
        self, batches: Sequence[Batch], loss: LossFunction, units: int, rate: float
    ) -> dict[str, Tensor]:
        """Make one optimizer step from this rank's micro-batches (a collective).

        Args:
            batches: One for each forward pass, on the device; as many on every rank, and at most
                DeepSpeed's accumulation steps, above 1 of which it sets room for sums aside.
            loss: What is minimised.
            units: What the sums of the whole step are divided by, over all ranks and micro-batches.
            rate: Learning rate.

        Returns:
            Scalars on the device, the same on every rank: ``loss``, per unit, further sums of the
            loss by name, also per unit, and the penalty ``l2_to_base``, which these do not include;
            NaN when the gradients are not finite. And ``grad_norm``, the L2 norm of the gradients
            before clipping.
        """
        engine = self._deepspeed
        for group in engine.optimizer.param_groups:
            group["lr"] = rate
        skipped, penalty = engine.skipped_steps, self._penalty()
        sums = self._accumulate(batches, loss, units, penalty)
        engine.step()
        for name in self._steps:
            self._steps[name] += 1
        total = torch.stack([x.float() for x in sums.values()])
        if engine.skipped_steps > skipped:
            # ZeRO leaves out a step whose gradients are not finite, and says so nowhere else: the
            # run would go on without learning.
            total.fill_(torch.nan)
        if self._ranks.size > 1:
            dist.all_reduce(total)
        means = dict(zip(sums, total / units, strict=True))
        norm = engine.get_global_grad_norm() if self._norm is None else self._norm
        means["grad_norm"] = torch.as_tensor(norm, dtype=torch.float32, device=total.device)
        return means if penalty is None else means | {"l2_to_base": penalty.detach()}

    def _accumulate(
        self, batches: Sequence[Batch], loss: LossFunction, units: int, penalty: Tensor | None
    ) -> dict[str, Tensor]:
        """Sum the gradients of a step's passes; return the sums of the losses by name."""
        engine = self._deepspeed
        totals: dict[str, Tensor] = {}
        # DeepSpeed averages over ranks; what is wanted is the sum over them divided by the units
        # of all, whichever pass they stand in.
        scale = self._ranks.size / units
        for number, batch in enumerate(batches, start=1):
            # Passes differ in number from step to step, so DeepSpeed has to be given the last one.
            engine.set_gradient_accumulation_boundary(number == len(batches))
            found = loss(engine, batch)
            value = found.value * scale
            if penalty is not None and number == 1:
                # Averaged over ranks it is itself again.
                value = value + penalty
            self._backward(value)
            for name, x in {"loss": found.value, **found.sums}.items():
                totals[name] = totals.get(name, 0) + x.detach()
        return totals

    def _penalty(self) -> Tensor | None:
        strength = self._training.l2_to_base
        if not strength:
            return None
        trained = [(name, x) for name, x in self.model.named_parameters() if x.requires_grad]
        return strength * half_square((x, self._penalty_target[name]) for name, x in trained)

    def _backward(self, loss: Tensor) -> None:
        if self._ranks.size > 1 or self._training.stage(1) > 0:
            self._deepspeed.backward(loss, scale_wrt_gas=False)
            return
        # A single rank has no gradients to exchange; DeepSpeed would copy all of them into one
        # buffer and back.
        with self._deepspeed.no_sync():
            self._deepspeed.backward(loss, scale_wrt_gas=False)
        for parameter in self.model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)  # as the sum over ranks makes it

    def parts(self, touched: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield what a checkpoint needs, as parts (see ``tensor_parts``) of ``KIND/PARAMETER``.

        Each rank yields parts of its own, which are all together; nothing is copied or exchanged.

        Args:
            touched: Parameters that may differ from the base.
        """
        link_states(self._deepspeed)
        for name, parameter in self.model.named_parameters():
            found: list[tuple[str, int, Tensor]] = []
            if name in touched:
                found.append(("weight", *own_part(parameter, held(parameter), self._ranks)))
            if self._steps.get(name, 0):
                found += own_parts(self._deepspeed, parameter, self._ranks)
            elif name in self.parked:
                for key, state in self.parked[name].tensors.items():
                    found.append((key, *own_part(parameter, state, self._ranks)))
            for kind, start, numbers in found:
                if len(numbers):
                    yield part_name(f"{kind}/{name}", start), numbers.detach()

    def spans(self) -> dict[str, range]:
        """Return parameter -> the places of what this rank holds among its flattened numbers."""
        return {name: held_span(x, self._ranks) for name, x in self.model.named_parameters()}

    @property
    def steps(self) -> dict[str, int]:
        """Parameter -> optimizer steps that its moments have seen, parked ones included."""
        parked = {name: moments.steps for name, moments in self.parked.items()}
        return parked | {name: count for name, count in self._steps.items() if count}

    def restore(self, tensors: Mapping[str, Tensor], steps: Mapping[str, int]) -> None:
        """Take over what :meth:`parts` and :attr:`steps` gave, before the first :meth:`select`.

        That select gives the moments to the parameters of its draw, under any policy.

        Args:
            tensors: ``KIND/PARAMETER`` -> its flattened numbers of :meth:`spans`.
            steps: Parameter -> optimizer steps that its moments have seen.
        """
        parameters = dict(self.model.named_parameters())
        found: dict[str, dict[str, Tensor]] = {}
        for key, numbers in tensors.items():
            kind, name = key.split("/", 1)
            parameter = parameters[name]
            if kind == "weight":
                at_rest(parameter).view(-1).copy_(numbers)
            else:
                found.setdefault(name, {})[kind] = held_state(parameter, numbers, self._ranks)
        self.parked = {name: Moments(steps[name], kinds) for name, kinds in found.items()}

    @property
    def forward_model(self) -> nn.Module:
        """The module to run forward passes with, for evaluation."""
        return self.model

    def attach(self, draw: Draw) -> None:
        """Put on the module what a forward pass needs, if it has no engine (a collective).

        Below ZeRO-3 that is nothing. ZeRO-3 gathers parameters in an engine, here one over
        ``draw``.
        """
        if self._deepspeed is None and self._training.zero_stage == 3:
            self.select(draw)

    def finish(self) -> None:
        """Take the engine off the module for good, with all that training needed beside it."""
        self.close()
        self.parked.clear()
        self._penalty_target = {}

    def close(self) -> None:
        """Take the engine off the module, which keeps its weights (a collective)."""
        if self._deepspeed is None:
            return
        engine, self._deepspeed = self._deepspeed, None
        self._steps = {}
        destroy(engine, self.model)
        del engine
        # It is full of cycles, and the next one needs its memory.
        gc.collect()


@dataclass(frozen=True)
class _Group:
    """An optimizer group: parameters with one weight decay whose moments saw equally many steps."""

    weight_decay: float
    steps: int
    parameters: dict[str, nn.Parameter]
