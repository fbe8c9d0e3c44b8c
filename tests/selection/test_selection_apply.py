"""A draw in effect on a model."""

from __future__ import annotations

import pytest
import torch
from selection_models import ARCHITECTURES

from hft_ray.config import Selection
from hft_ray.selection import apply, build_catalog, draw


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2", "mixtral"])
@pytest.mark.parametrize("embeddings", ["trained", "frozen", "selected"])
def test_exactly_the_drawn_parameters_are_trainable(name: str, embeddings: str):
    model = ARCHITECTURES[name].build()
    catalog = build_catalog(model)
    for round in range(3):
        drawn = draw(catalog, Selection(embeddings=embeddings), round)
        apply(model, drawn)
        trainable = {name for name, each in model.named_parameters() if each.requires_grad}
        assert trainable == set(drawn.parameters)
        count = sum(each.numel() for each in model.parameters() if each.requires_grad)
        assert count / catalog.parameters == drawn.fractions.model_parameters


def test_gradients_of_the_others_are_dropped_and_sgd_moves_only_the_drawn():
    model = ARCHITECTURES["llama"].build()
    catalog = build_catalog(model)
    tokens = torch.arange(1, 9).reshape(1, 8)
    model(input_ids=tokens, labels=tokens).loss.backward()
    drawn = draw(catalog, Selection(embeddings="frozen"), 0)
    apply(model, drawn)
    assert {n for n, p in model.named_parameters() if p.grad is not None} == set(drawn.parameters)

    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1).step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == set(drawn.parameters)


def test_a_draw_of_another_model_is_refused():
    drawn = draw(build_catalog(ARCHITECTURES["gpt2"].build("meta")), Selection(), 0)
    model = ARCHITECTURES["llama"].build()
    with pytest.raises(ValueError, match=r"draw is of another model.*transformer\.h"):
        apply(model, drawn)
    assert all(each.requires_grad for each in model.parameters())
