"""Private names of PyTorch, which hold in 2.11 to 2.13.

==========================================  ==================================================
``torch.utils._python_dispatch``            Sees every operation; the way that PyTorch's notes name
``torch.utils._pytree.tree_leaves``         The tensors of what an operation gives
``UntypedStorage._cdata``                   The identity of a storage without memory
==========================================  ==================================================
"""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["TorchDispatchMode", "identity", "tree_leaves"]


def identity(storage: torch.UntypedStorage) -> int:
    """Return a number that no other storage has while this one is alive."""
    return int(storage._cdata)
