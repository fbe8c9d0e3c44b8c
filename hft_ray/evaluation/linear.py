"""Log-probabilities of a linear head, in parts: the logits of all positions never exist at once.

Symbols: x (N, H) hidden states, W (V, H) and c (V) the head, y (N) the tokens that followed.

    z = f(W x + c)      logits, with f what the model does to them after the head
    loss = -log softmax(z)[y]
    d loss / d (W x + c) = (softmax(z) - onehot(y)) f'          the slopes; [N, V]
    d loss / d x = slopes W,   d loss / d W = slopes^T x

A sum may weigh the losses of its positions by what the model says there, numbers without a
gradient, so that slopes are weighted as losses are; and it may add to them another loss of z, whose
gradient by z is added to the slopes.

All three products are made for some positions at a time, and gradients in the forward pass, while
the logits are there: what stays is as large as x and W. So do "Cut Your Losses in Large-Vocabulary
Language Models" (arXiv 2411.09009) and the fused linear cross-entropy of "Liger Kernel" (arXiv
2410.10989). The softmax is computed in fp32, products in the type of x and W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PART_BYTES = 1 << 28
"""Most bytes of the logits that are held at once, in the type of x."""
TRAINED_PART = 2048
"""At least so many positions at once where W is trained: each part's product is added to fp32 sums
as large as W, which would take longer than a small part's products themselves."""
FP32_BYTES = 1 << 27
"""Most bytes of logits in fp32, of some of a part's positions."""


Weigh = Callable[[Tensor, Tensor], Tensor]
"""``weigh(log softmax(z) [P, V], log softmax(z)[y] [P])`` -> weights [P], of some positions."""

Anchor = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""``anchor(log softmax(z) [P, V], places)`` -> what is added to the losses of some positions, [P],
and its gradient by z, [P, V], in fp32; places are among all N."""


@dataclass(frozen=True)
class Shaping:
    """The shaping of logits after the head: ``cap * tanh(scale * logits / cap)``, by element."""

    scale: float = 1.0
    cap: float = math.inf

    @property
    def plain(self) -> bool:
        """Whether it changes nothing."""
        return self == Shaping()

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the shaped logits in fp32; plain ones as they are."""
        if self.plain:
            return logits
        scaled = logits.float() * self.scale
        return scaled if math.isinf(self.cap) else self.cap * torch.tanh(scaled / self.cap)

    def slope(self, shaped: Tensor) -> Tensor:
        """Return the derivative by the logits, where the result is ``shaped``."""
        return self.scale * (1 - (shaped / self.cap) ** 2)


@dataclass(frozen=True)
class Terms:
    """What becomes of the cross-entropy of positions in a sum: a weight, and what is added.

    Attributes:
        weigh: Gives the weights; ``None``: all are 1.
        anchor: Gives what is added, which is not weighted; ``None``: nothing.
    """

    weigh: Weigh | None = None
    anchor: Anchor | None = None


PLAIN = Terms()


@dataclass(frozen=True)
class Head:
    """The map from hidden states to logits.

    Attributes:
        weight: [V, H]; ``None``: what is called hidden states are logits already.
        bias: [V], or ``None``.
        shaping: What becomes of the logits.
    """

    weight: Tensor | None = None
    bias: Tensor | None = None
    shaping: Shaping = Shaping()

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of every position in nats, fp32, [N].

        Args:
            hidden: [N, H].
            targets: Token ids, [N].
        """
        return self._losses(hidden, targets, summed=False)

    def loss(self, hidden: Tensor, targets: Tensor, terms: Terms = PLAIN) -> Tensor:
        """Return the sum of the losses, a scalar; no logits are computed in the backward pass.

        Args:
            hidden: [N, H].
            targets: Token ids, [N].
            terms: What becomes of the losses in the sum.
        """
        return self._losses(hidden, targets, summed=True, terms=terms)

    def _losses(
        self, hidden: Tensor, targets: Tensor, summed: bool, terms: Terms = PLAIN
    ) -> Tensor:
        wanted = torch.is_grad_enabled()
        found: Tensor = _Losses.apply(
            hidden, targets, self, self.weight, self.bias, summed, wanted, terms
        )
        return found

    def logits(self, hidden: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the places of some positions and their logits in fp32, until all had their turn."""
        for part in _parts(hidden, self, False):
            for rows, logits in _rows(self._project(hidden[part])):
                yield _within(part, rows), self.shaping(logits).float()

    def _project(self, hidden: Tensor) -> Tensor:
        """Return logits that may be overwritten, before they are shaped."""
        return hidden.clone() if self.weight is None else F.linear(hidden, self.weight, self.bias)


class _Losses(torch.autograd.Function):
    """See the module. ``weight`` and ``bias`` are the head's, here to be differentiated."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: Tensor,
        head: Head,
        weight: Tensor | None,
        bias: Tensor | None,
        summed: bool,
        wanted: bool,
        terms: Terms,
    ) -> Tensor:
        needs = [need and wanted for need in ctx.needs_input_grad]
        of_hidden = torch.empty_like(hidden) if needs[0] else None
        of_head = _HeadGradient(weight, bias) if needs[3] or needs[4] else None
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for part in _parts(hidden, head, of_head is not None):
            slopes = head._project(hidden[part])
            losses[part] = _to_slopes(
                slopes, targets[part], head.shaping, any(needs), terms, part.start
            )
            if of_hidden is not None:
                of_hidden[part] = slopes if weight is None else slopes @ weight
            if of_head is not None and summed:
                of_head.add(slopes, hidden[part])
        ctx.of_hidden, ctx.of_head, ctx.summed = of_hidden, of_head, summed
        if of_head is not None and not summed:
            ctx.shaping = head.shaping
            ctx.save_for_backward(hidden, targets, weight, bias)
        return losses.sum() if summed else losses

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_head = ctx.of_hidden, ctx.of_head
        ctx.of_hidden = ctx.of_head = None  # they are as large as x and W
        if of_hidden is not None:
            each = upstream if ctx.summed else upstream[:, None]
            of_hidden = (of_hidden * each).to(of_hidden.dtype)
        of_weight = of_bias = None
        if of_head is not None:
            if not ctx.summed:
                _weighted(ctx, of_head, upstream)
            of_weight, of_bias = of_head.times(upstream if ctx.summed else None)
        return of_hidden, None, None, of_weight, of_bias, None, None, None


def _weighted(ctx: Any, of_head: _HeadGradient, upstream: Tensor) -> None:
    """Add up the head's gradient, where each position's weighs as much as ``upstream`` says [N]."""
    hidden, targets, weight, bias = ctx.saved_tensors
    head = Head(weight, bias, ctx.shaping)
    for part in _parts(hidden, head, True):
        slopes = head._project(hidden[part])
        _to_slopes(slopes, targets[part], head.shaping, True)
        of_head.add(slopes.mul_(upstream[part, None]), hidden[part])


class _HeadGradient:
    """The gradient of a head, added up in fp32: of many parts in bf16 the small ones would be lost.

    A part of it that is not wanted is not made.
    """

    def __init__(self, weight: Tensor | None, bias: Tensor | None) -> None:
        self._types = [each.dtype if each is not None else None for each in (weight, bias)]
        self._weight, self._bias = (
            torch.zeros_like(each, dtype=torch.float32)
            if each is not None and each.requires_grad
            else None
            for each in (weight, bias)
        )

    def add(self, slopes: Tensor, hidden: Tensor) -> None:
        """Add the gradient of some positions, [P, V] and [P, H]."""
        if self._weight is not None and slopes.dtype == torch.float32:
            self._weight.addmm_(slopes.T, hidden)
        elif self._weight is not None:
            self._weight += slopes.T @ hidden
        if self._bias is not None:
            self._bias += slopes.sum(dim=0, dtype=torch.float32)

    def times(self, factor: Tensor | None) -> list[Tensor | None]:
        """Return the gradients of weight and bias in their types; this object is used up."""
        for each in (self._weight, self._bias):
            if each is not None and factor is not None:
                each *= factor
        sums = zip((self._weight, self._bias), self._types, strict=True)
        return [None if each is None else each.to(kind) for each, kind in sums]


def _to_slopes(
    logits: Tensor,
    targets: Tensor,
    shaping: Shaping,
    wanted: bool,
    terms: Terms = PLAIN,
    start: int = 0,
) -> Tensor:
    """Return the loss of each position [P]; turn its logits [P, V] into slopes, if wanted.

    ``start`` is the place of the first position.
    """
    losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    for rows, own in _rows(logits):
        shaped, chosen = shaping(own), targets[rows, None]
        logprobs = F.log_softmax(shaped, dim=-1, dtype=torch.float32)
        found = logprobs.gather(1, chosen)
        losses[rows] = -found[:, 0]
        weights = None if terms.weigh is None else terms.weigh(logprobs, found[:, 0])
        if weights is not None:
            losses[rows] *= weights
        added = None
        if terms.anchor is not None:
            values, added = terms.anchor(logprobs, slice(start + rows.start, start + rows.stop))
            losses[rows] += values
        if wanted:
            torch.exp(logprobs, out=own)
            # Not p - 1 in the type of x: of a bf16 near 1 little would be left.
            own.scatter_(1, chosen, found.expm1().to(own.dtype))
            if weights is not None:
                own *= weights[:, None]
            if added is not None:
                own += added
            if not shaping.plain:
                own *= shaping.slope(shaped)
    return losses


def _parts(hidden: Tensor, head: Head, trained: bool) -> Iterator[slice]:
    """Yield positions whose logits are computed at once."""
    width = hidden.shape[1] if head.weight is None else head.weight.shape[0]
    size = max(PART_BYTES // (width * hidden.element_size()), TRAINED_PART if trained else 1)
    return _slices(len(hidden), size)


def _rows(logits: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield places and logits of positions that are looked at in fp32 at once."""
    for rows in _slices(len(logits), max(1, FP32_BYTES // (4 * logits.shape[1]))):
        yield rows, logits[rows]


def _slices(count: int, most: int) -> Iterator[slice]:
    """Cut ``count`` into as few slices of at most ``most`` as there can be, of like length.

    Of nothing there is an empty one.
    """
    size = max(1, math.ceil(count / max(1, math.ceil(count / most))))
    return (slice(start, min(start + size, count)) for start in range(0, max(1, count), size))


def _within(part: slice, rows: slice) -> slice:
    return slice(part.start + rows.start, part.start + rows.stop)
