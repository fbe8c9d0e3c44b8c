"""PyTorch keeps what :mod:`hft_ray.compat.torch_dispatch` relies on."""

from __future__ import annotations

import torch

from hft_ray.compat.torch_dispatch import TorchDispatchMode, identity, tree_leaves

VERSIONS = "hft_ray/compat/torch_dispatch.py holds for PyTorch 2.11 to 2.13"


def test_a_mode_sees_the_tensors_of_every_operation():
    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found = func(*args, **kwargs or {})
            seen.extend(tree_leaves(found))
            return found

    with Mode():
        torch.empty(3, 2, device="meta").sum(dim=1)
    assert {tuple(each.shape) for each in seen} == {(3, 2), (3,)}, VERSIONS


def test_views_share_an_identity_and_others_do_not():
    one, other = torch.ones(3, device="meta"), torch.ones(3, device="meta")
    ids = [identity(each.untyped_storage()) for each in (one, one[1:], other)]
    assert ids[0] == ids[1] != ids[2], VERSIONS
