"""What saves time or memory changes no result; a backward pass ends at the lowest trained layer."""

import gc
import weakref
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from hft_ray.config import Selection
from hft_ray.selection import build_catalog, draw
from hft_ray.training.garbage import only_new_garbage
from hft_ray.training.loss import IGNORED, answer_loss
from hft_ray.training.models import recompute_activations

TOP = 3


@pytest.fixture
def model(tiny_models):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(tiny_models["untied"]).train()


@pytest.fixture
def batch():
    ids = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    # Answers that begin at different places, and a row without any.
    labels[0, :4], labels[1, :7], labels[2] = IGNORED, IGNORED, IGNORED
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}


def gradients(model):
    return {name: x.grad.clone() for name, x in model.named_parameters() if x.grad is not None}


def plain_loss(model, batch):
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    targets = batch["labels"][:, 1:].flatten()
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), targets, reduction="sum")


def test_the_head_works_for_trained_positions_alone(model, batch):
    answer_loss(model, batch)  # the first call also looks at what the model does to its logits
    rows = []
    model.lm_head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[:-1]))
    loss = answer_loss(model, batch)
    loss.backward()
    trained = int((batch["labels"][:, 1:] != IGNORED).sum())
    assert rows == [(trained,)]
    found = gradients(model)
    model.zero_grad()
    expected = plain_loss(model, batch)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_model_with_code_of_its_own_gives_the_same_loss(model, batch):
    expected = answer_loss(model, batch).item()
    rows = []
    model.lm_head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[:-1]))
    model.__class__ = type("OwnCode", (type(model),), {})
    assert answer_loss(model, batch).item() == pytest.approx(expected, rel=1e-6)
    assert rows == [batch["input_ids"].shape]


def test_a_batch_without_answers_has_no_loss_and_no_gradient(model, batch):
    loss = answer_loss(model, batch | {"labels": torch.full_like(batch["labels"], IGNORED)})
    loss.backward()
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in gradients(model).values())


@pytest.mark.parametrize("recomputed", [False, True])
def test_the_backward_pass_ends_at_the_lowest_trained_layer(model, batch, recomputed):
    selection = Selection(granularity="layer", ratio=0.25, embeddings="frozen")
    catalog = build_catalog(model)
    rounds = (draw(catalog, selection, number) for number in range(100))
    drawn = next(each for each in rounds if {unit.layer for unit in each.units} == {TOP})
    if recomputed:
        recompute_activations(model)
    answer_loss(model, batch)  # as above
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in drawn.parameters)
    needs = {}

    def note(index, _, __, output):
        needs.setdefault(index, output.requires_grad)

    for index, layer in enumerate(model.model.layers):
        layer.register_forward_hook(partial(note, index))
    answer_loss(model, batch).backward()
    assert needs == {index: index == TOP for index in range(len(model.model.layers))}
    assert gradients(model).keys() == set(drawn.parameters)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_an_offloaded_optimizer_makes_the_same_steps(runs, stage):
    offloaded, plain = (runs.losses(f"zero{stage}-{kind}") for kind in ("offload", "leaving"))
    assert offloaded == pytest.approx(plain, rel=1e-4)
    rounds = [runs.outcome(f"zero{stage}-{kind}")["selection"] for kind in ("offload", "leaving")]
    assert [each["hash"] for each in rounds[0]] == [each["hash"] for each in rounds[1]]


def cycle():
    """Return what only a collection frees: an object that refers to itself, and who sees it go."""
    made = nn.Linear(1, 1)
    made.itself = [made]
    return made, weakref.ref(made)


def test_what_a_run_makes_is_collected_and_old_objects_are_again_afterwards():
    before = gc.get_freeze_count()
    old, old_seen = cycle()
    with only_new_garbage():
        assert gc.get_freeze_count() > before
        new, new_seen = cycle()
        del new
        gc.collect()
        assert new_seen() is None
        last, last_seen = cycle()
        del last
    assert last_seen() is None
    assert gc.get_freeze_count() == 0
    del old
    gc.collect()
    assert old_seen() is None


def test_what_a_failed_run_leaves_is_gone_when_the_next_begins():
    @only_new_garbage()
    def fail():
        _model, seen = cycle()
        raise ValueError(seen)

    with pytest.raises(ValueError, match="weakref") as caught:
        fail()
    (seen,) = caught.value.args
    assert seen() is not None, "its error refers to it"
    del caught
    with only_new_garbage():
        assert seen() is None
