"""Private attributes of transformers' models, which hold in 5.23 and later 5.x.

They are read from models alone; this module imports nothing.

=======================================  ====================================================
``_tied_weights_keys``                   What the class ties, whatever the configuration says
``_can_record_outputs``                  Classes whose outputs are recorded, of which kind
``_keys_to_ignore_on_load_unexpected``   Patterns of keys in files that ``from_pretrained`` skips
``config._attn_implementation``          Attention in use; ``set_attn_implementation`` is public
=======================================  ====================================================
"""

from __future__ import annotations

from typing import Any


def ties_weights(model: Any) -> bool:
    """Whether the class of ``model`` can tie weights."""
    return bool(getattr(model, "_tied_weights_keys", None))


def recorded_outputs(module: Any) -> dict[str, Any]:
    """Return kind of output -> class, recorder or list of these, as the class declares it."""
    return getattr(type(module), "_can_record_outputs", None) or {}


def ignored_on_load(model: Any) -> tuple[str, ...]:
    """Return the patterns of keys in a file that the loader of ``model`` skips."""
    return tuple(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())


def attention_implementation(model: Any) -> str | None:
    """Return the name of the attention that ``model`` uses."""
    name: str | None = model.config._attn_implementation
    return name
