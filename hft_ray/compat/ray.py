"""Private names of Ray's core, which hold in 2.60.

``ray._private.state.state.get_draining_nodes`` tells which nodes are about to be taken away; Ray
Train reads them there too.
"""

from __future__ import annotations

from ray._private.state import state


def draining_nodes() -> frozenset[str]:
    """Return the ids of the nodes that are about to be taken away, as spot instances are."""
    return frozenset(state.get_draining_nodes())
