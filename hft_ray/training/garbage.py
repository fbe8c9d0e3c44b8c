"""Keeps Python's garbage collector off what lives as long as a run."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_swept = False
"""Whether the run before this one, in this process, has left nothing behind."""


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Have collections look only at objects that are made from here on; collect those at the end.

    A DeepSpeed engine is full of reference cycles and holds its memory until a collection. One that
    goes through all objects of the imported libraries takes some 0.4 s, at every re-selection and
    every run. At the beginning that is needed only where an earlier run may have left its model:
    one that failed does, as its error refers to it.
    """
    global _swept
    gc.collect(1 if _swept else 2)
    _swept = False
    gc.freeze()
    try:
        yield
        gc.collect()
        _swept = True
    finally:
        gc.unfreeze()
