"""A private name of Ray, which holds in 2.60: ``state.get_draining_nodes`` of ``ray._private``.

Ray Train asks it too. Apart from ``ray_train``, which imports torch.
"""

from __future__ import annotations

from ray._private.state import state


def draining_nodes() -> frozenset[str]:
    """Return the ids of the nodes that are about to be taken away, as spot instances are."""
    return frozenset(state.get_draining_nodes())
