"""How much each unit matters for what the base can do: what the strategy ``source`` ranks by.

The importance of a parameter is the mean of its squared gradient over sequences of general data,
the diagonal of the empirical Fisher information, by which EWC (Kirkpatrick et al., arXiv
1612.00796, eq. 3) weighs the harm of moving it. SSU (arXiv 2512.04844) freezes what matters for
source data, column by column and by activations; here matrices are frozen as wholes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor, nn

from hft_ray.config import Config
from hft_ray.data import TrainingSet, as_batch, on_device
from hft_ray.ranks import Ranks
from hft_ray.selection import Unit
from hft_ray.training.gradient_norms import gradient_norms
from hft_ray.training.loss import answer_loss
from hft_ray.training.reference import ReferenceStore
from hft_ray.training.workspace import Workspace


def source_norms(
    config: Config,
    workspace: Workspace,
    model: nn.Module,
    base: str,
    units: Sequence[Unit],
    ranks: Ranks,
) -> dict[str, float]:
    """Return unit name -> L2 norm of its gradient, the root mean square over general sequences.

    It is measured once for all runs on the same base, data and ``selection.probe``, the number of
    sequences, which are spread evenly over the data. A collective; see :func:`gradient_norms`.

    Args:
        config: FILE, which has general data.
        workspace: Where the data are, and where the norms are kept.
        model: The untouched base.
        base: Its weights and number format.
        units: The units to measure.
        ranks: The processes that share the work.
    """
    place, pad = config.general_data, workspace.tokenizer(config.model).pad_token_id
    sets = workspace.training_sets(config.model, config.training_data)
    data = dict(zip(config.training_data, sets, strict=True))[place or ""]
    names = [unit.name for unit in units]
    places = data.spread(config.selection.probe)

    def measure() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        losses = [partial(_mean_loss, data, pad, int(index)) for index in places]
        found = gradient_norms(model, units, losses, ranks)
        return np.array([found[name] for name in names])

    parts = [base, data.identity, f"gradients of {len(places)}", *names]
    kept = ReferenceStore(workspace.cache, "units").get(parts, ranks, measure)
    return dict(zip(names, map(float, kept), strict=True))


def _mean_loss(data: TrainingSet, pad: int, index: int, model: nn.Module) -> Tensor:
    batch = on_device(as_batch([data[index]], pad, packed=False), next(model.parameters()).device)
    return answer_loss(model, batch) / max(1, int(data.answer_tokens[index]))
