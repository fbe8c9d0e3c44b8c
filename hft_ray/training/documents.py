"""Attention that keeps the documents of a pass apart, so that a batch needs no padding.

A packed pass is one row in which documents follow one another, their positions from 0. Where each
ends is stated by the arguments of FlashAttention's variable-length form (``cu_seq_lens_q`` and
``max_length_q``), which models of transformers hand through to their attention function. Here that
function is torch's ``varlen_attn`` on a GPU in 16 bit, and elsewhere scaled dot-product attention
of one document after another. Neither computes anything between two documents.

What a model asks of attention beyond causality, a scale, dropout and a sliding window is refused,
and the run falls back to padding (see :class:`Documents`).
"""

from __future__ import annotations

import inspect
import logging
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface

from hft_ray.compat.hf_attributes import attention_implementation
from hft_ray.config import Config
from hft_ray.data import concatenate
from hft_ray.evaluation.sharding import scoring
from hft_ray.ranks import Ranks
from hft_ray.training.fit import quiet

try:
    from torch.nn.attention import varlen

    _VARLEN = frozenset(inspect.signature(varlen.varlen_attn).parameters)
except ImportError:  # before torch 2.10
    _VARLEN = frozenset()

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME = "hft_documents"
"""Name of the attention function among those of transformers."""

_ROUNDING = 4
"""Isolated documents have equal logits, up to kernels that sum in another order."""
_LARGEST_HEAD = 256
"""Numbers of a head that FlashAttention takes at most."""

log = logging.getLogger(__name__)


class UnsupportedAttentionError(Exception):
    """A model asks for attention that cannot be computed document by document."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return attention within each document, an attention function of transformers.

    Args:
        module: The attention layer.
        query: [1, heads, T, D].
        key: [1, key-value heads, T, D].
        value: [1, key-value heads, T, D].
        attention_mask: What :func:`mask` gave.
        dropout: Rate of dropped weights.
        scaling: Of the scores; none: one over the root of D.
        is_causal: Whether a token sees only what comes before; none: what the layer says.
        sliding_window: Tokens that a token sees, itself included; none: all before it.
        kwargs: ``cu_seq_lens_q``, where documents begin and end, int32, [documents + 1], none of
            one alone; ``max_length_q``, tokens of the longest; and what else the model gives.

    Returns:
        The result, [1, T, heads, D], and no weights.

    Raises:
        UnsupportedAttentionError: The model asks for something else, such as soft-capped scores.
    """
    if len(query) != 1:
        raise UnsupportedAttentionError("its attention is given several rows")
    for name in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise UnsupportedAttentionError(f"its attention needs `{name}`")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise UnsupportedAttentionError("its attention is not causal")
    if attention_mask is not None and int(attention_mask) != sliding_window:
        raise UnsupportedAttentionError("its attention has a window that only the mask holds")
    bounds, longest = _bounds(query, kwargs)
    if _has_kernel(query, key, value, dropout, sliding_window):
        out = _varlen(query, key, value, bounds, longest, scaling, sliding_window)
    else:
        out = _one_by_one(query, key, value, bounds, dropout, scaling, sliding_window)
    return out, None


def _bounds(query: Tensor, given: Mapping[str, Any]) -> tuple[Tensor, int]:
    """Return where documents begin and end, and the tokens of the longest."""
    bounds, longest = given.get("cu_seq_lens_q"), given.get("max_length_q")
    length = query.shape[2]
    if bounds is None:  # a row of one document
        return torch.tensor([0, length], dtype=torch.int32, device=query.device), length
    return bounds, length if longest is None else int(longest)


def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    **kwargs: Any,
) -> Tensor | None:
    """Return what :func:`attend` takes for a mask: nothing, or the window of a layer, [1, 1, 1, 1].

    transformers states the window of a layer here, and most models state it to their attention
    function too. The others are found by the two being different.
    """
    if attention_mask is not None:
        raise UnsupportedAttentionError("it makes an attention mask of its own")
    return None if local_size is None else torch.full((1, 1, 1, 1), local_size)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, mask)


def _has_kernel(
    query: Tensor, key: Tensor, value: Tensor, dropout: float, window: int | None
) -> bool:
    size = query.shape[-1]
    return (
        bool(_VARLEN)
        and query.is_cuda
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.dtype == key.dtype == value.dtype
        and value.shape[-1] == size <= _LARGEST_HEAD
        and size % 8 == 0
        and not dropout
        # Older versions of torch have `is_causal` in its place.
        and (window is None or "window_size" in _VARLEN)
    )


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    more: dict[str, Any] = {"scale": scaling} if "scale" in _VARLEN else {}
    if "scale" not in _VARLEN and scaling is not None:
        query = query * (scaling * query.shape[-1] ** 0.5)
    if "window_size" in _VARLEN:
        # Tokens on either side of a token, itself not counted.
        more["window_size"] = (-1 if window is None else window - 1, 0)
    else:
        more["is_causal"] = True
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and "enable_gqa" in _VARLEN:
        more["enable_gqa"] = True
    elif groups > 1:
        key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    out = varlen.varlen_attn(q, k, v, bounds, bounds, longest, longest, **more)
    assert isinstance(out, Tensor)
    return out[None]


def _one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    parts = []
    for start, end in pairwise(bounds.tolist()):
        band = None
        if window is not None and end - start > window:
            place = torch.arange(end - start, device=query.device)
            distance = place[:, None] - place
            band = (distance >= 0) & (distance < window)
        q, k, v = (each[:, :, start:end] for each in (query, key, value))
        part = F.scaled_dot_product_attention(
            *(q, k, v, band),
            dropout_p=dropout,
            is_causal=band is None,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        parts.append(part)
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


class Documents:
    """Whether the passes of a run are packed, and the attention that they need.

    Args:
        model: The model.
        config: FILE.

    Attributes:
        packed: Whether they are; :meth:`settle` finds out.
    """

    def __init__(self, model: Any, config: Config) -> None:
        self._model, self._name = model, config.model.name
        self._attention, self._wanted = config.model.attention, config.data.packing
        self.packed = False
        self._settled = False

    def settle(self, ranks: Ranks) -> None:
        """Find out whether the model can keep documents apart, once (a collective).

        The model must be one that runs: under ZeRO-3 with its engine.
        """
        if self._settled:
            return
        self._settled = True
        if not self._wanted:
            return
        reason: str | None = ranks.broadcast(self._problem())
        self.packed = reason is None
        if reason is not None and ranks.main:
            log.warning(
                "%s: batches are padded, since %s; set data.packing to false to ask for that",
                *(self._name, reason),
            )

    def apart(self) -> AbstractContextManager[None]:
        """Have the model keep documents apart for as long as it lasts, backward passes included."""
        return by_document(self._model) if self.packed and self._switches else nullcontext()

    @property
    def _switches(self) -> bool:
        # FlashAttention reads the same arguments itself.
        return self._attention != "flash_attention_2"

    def _problem(self) -> str | None:
        """Return why documents cannot be kept apart; none if they can be."""
        if self._attention == "eager":
            return "model.attention is eager, which computes attention between all documents"
        try:
            with quiet():
                return _mixes(self._model, by_document if self._switches else None)
        except (UnsupportedAttentionError, TypeError) as error:
            # A TypeError: its code does not take the arguments.
            return f"documents in one row would see each other: {error}"


@contextmanager
def by_document(model: Any) -> Iterator[None]:
    """Have a model use :func:`attend` for as long as it lasts."""
    usual = attention_implementation(model)
    model.set_attn_implementation(NAME)
    try:
        if attention_implementation(model) != NAME:
            raise UnsupportedAttentionError("its attention cannot be set")
        yield
    finally:
        model.set_attn_implementation(usual)


def _mixes(model: Any, attention: Any) -> str | None:
    """Return what is wrong if documents of one row see each other, by tiny forward passes."""
    first, other, second = [1, 2, 3, 4], [4, 3, 2, 1], [5, 6, 7]

    def logits(*documents: list[int]) -> Tensor:
        ids = (np.array(each) for each in documents)
        row = concatenate([{"input_ids": each, "labels": each} for each in ids])
        row = {name: x.to(model.device) for name, x in row.items() if name != "labels"}
        found: Tensor = model(**row, use_cache=False).logits[0]
        return found

    with scoring(model):
        alone = model(
            input_ids=torch.tensor([second], device=model.device), use_cache=False
        ).logits[0]
        with attention(model) if attention else nullcontext():
            here, there = (logits(each, second)[len(first) :] for each in (first, other))
    size = here.abs().max()
    if (here - there).abs().max() > _ROUNDING * torch.finfo(here.dtype).eps * size:
        return "documents in one row would see each other: its attention does not keep them apart"
    # The kernels may differ: in 16 bit by a few parts in a hundred.
    if (here - alone).abs().max() > (1e-3 if here.dtype == torch.float32 else 0.1) * size:
        return "documents in one row would be read otherwise than alone"
    return None
