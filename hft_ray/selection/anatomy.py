"""What each module of a decoder is, read from the structure of the module tree.

Nothing here knows a model family or its parameter names. A decoder is a stack of layers (the
largest outermost ``nn.ModuleList``) with embeddings, a head, norms and projections outside. Inside
a layer:

- norm: a module whose own parameters are a 1-D weight and perhaps a 1-D bias;
- attention: the matrices below a module that the model declares to return attentions
  (``_can_record_outputs`` of transformers) or whose class name ends in ``Attention``;
- expert: 3-D weights ``[experts, ., .]`` or the matrices of a ``nn.ModuleList`` of like modules,
  with a router beside them;
- router: a lone matrix beside the experts whose output is one score per expert, or one score
  for the shared expert;
- feed-forward: every other matrix.

What fits none of these has no category, and the catalogue refuses the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from hft_ray.compat.hf_attributes import recorded_outputs

Category = Literal[
    "embedding", "attention", "feed_forward", "norm", "expert", "router", "head", "other"
]

CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """Return the whole parameter's shape, also where ZeRO-3 has partitioned it."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def size(parameter: nn.Parameter) -> int:
    """Return the whole parameter's number of elements, also where ZeRO-3 has partitioned it."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that ``module`` holds itself, by local name."""
    return dict(module.named_parameters(recurse=False))


@dataclass(frozen=True)
class Anatomy:
    """The places of a model's modules.

    Attributes:
        layer_of: Module inside the stack -> index of its layer.
        roles: Module inside a layer -> attention, expert or router, where it is part of one.
        foreign: Modules inside another list of modules than the stack.
        head: The module that gives the logits, if the model declares one.
        embedded: Identities of the weights of embeddings, among them a tied head's.
    """

    layer_of: dict[nn.Module, int]
    roles: dict[nn.Module, Category]
    foreign: frozenset[nn.Module]
    head: nn.Module | None
    embedded: frozenset[int]

    def category(self, module: nn.Module, parameters: dict[str, nn.Parameter]) -> Category | None:
        """Return the category of the ``parameters`` that ``module`` holds, or None if unknown."""
        role = self.roles.get(module)
        if role == "expert" and all(len(shape(each)) == 3 for each in parameters.values()):
            return role
        if not parameters.keys() <= {"weight", "bias"} or module in self.foreign:
            return None
        if _is_norm(module):
            return "norm"
        if module in self.layer_of:
            if role == "router":
                return role
            return (role or "feed_forward") if _is_matrix(module) else None
        if isinstance(module, nn.Embedding) or id(parameters.get("weight")) in self.embedded:
            return "embedding"
        if module is self.head:
            return "head"
        return "other" if _is_matrix(module) else None


def anatomy(model: nn.Module) -> Anatomy | None:
    """Return the places of ``model``'s modules, or None if it has no stack of layers."""
    stacks = list(_outermost_lists(model))
    if not stacks:
        return None
    stack = max(stacks, key=lambda each: sum(map(size, each.parameters())))
    declared = _declared_attention(model)
    layer_of: dict[nn.Module, int] = {}
    roles: dict[nn.Module, Category] = {}
    for index, layer in enumerate(stack):
        for module in layer.modules():
            layer_of.setdefault(module, index)
        roles |= _attention_roles(layer, declared)
        roles |= _sparse_roles(layer, roles)
    output = getattr(model, "get_output_embeddings", lambda: None)()
    return Anatomy(
        layer_of,
        roles,
        frozenset(module for other in stacks if other is not stack for module in other.modules()),
        output if isinstance(output, nn.Module) else None,
        frozenset(
            id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
        ),
    )


def _outermost_lists(module: nn.Module) -> Iterator[nn.ModuleList]:
    for child in module.children():
        if not isinstance(child, nn.ModuleList):
            yield from _outermost_lists(child)
        elif next(child.parameters(), None) is not None:
            yield child


def _declared_attention(model: nn.Module) -> tuple[type, ...]:
    """Return the classes that transformers records attentions of, in any part of ``model``."""
    found: list[Any] = []
    for module in model.modules():
        recorded = recorded_outputs(module)
        for key in ("attentions", "cross_attentions"):
            entry = recorded.get(key, [])
            found += entry if isinstance(entry, (list, tuple)) else [entry]
    # An entry is a class, or an OutputRecorder that holds one.
    classes = {getattr(entry, "target_class", entry) for entry in found}
    return tuple(each for each in classes if isinstance(each, type))


def _attention_roles(layer: nn.Module, declared: tuple[type, ...]) -> dict[nn.Module, Category]:
    attention = (
        module
        for module in layer.modules()
        if isinstance(module, declared) or type(module).__name__.endswith("Attention")
    )
    return {part: "attention" for module in attention for part in module.modules()}


def _sparse_roles(layer: nn.Module, known: dict[nn.Module, Category]) -> dict[nn.Module, Category]:
    parents = {child: parent for parent in layer.modules() for child in parent.children()}
    roles: dict[nn.Module, Category] = {}
    for module in layer.modules():
        count = 0 if module in known or module in roles else _expert_count(module)
        routers = _routers(module, count, parents) if count else []
        # Without a router these are not experts: a list is then read as any other module, and a
        # 3-D weight stays unknown.
        if routers:
            roles |= dict.fromkeys(module.modules(), "expert")
            roles |= {part: "router" for router in routers for part in router.modules()}
    return roles


def _expert_count(module: nn.Module) -> int:
    """Return how many experts ``module`` looks like, 0 if it does not look like experts."""
    if isinstance(module, nn.ModuleList):
        signatures = {_signature(expert) for expert in module}
        alike = len(signatures) == 1 and any(map(_is_matrix, module.modules()))
        return len(module) if alike and len(module) > 1 else 0
    if isinstance(module, CONVOLUTIONS):
        return 0
    leading = {shape(each)[0] for each in own_parameters(module).values() if len(shape(each)) == 3}
    return leading.pop() if len(leading) == 1 else 0


def _signature(module: nn.Module) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, shape(each)) for name, each in module.named_parameters())


def _routers(
    experts: nn.Module, count: int, parents: dict[nn.Module, nn.Module]
) -> list[nn.Module]:
    """Return the lone matrices beside ``experts``, in the nearest module that has a router."""
    block = experts
    while block in parents:
        block = parents[block]
        beside = [child for child in block.children() if experts not in set(child.modules())]
        outputs = {child: _lone_output(child) for child in beside}
        if count in outputs.values():
            return [child for child, output in outputs.items() if output in (count, 1)]
    return []


def _lone_output(module: nn.Module) -> int | None:
    """Return the output dimension of ``module`` if its parameters are one matrix [+ bias]."""
    shapes = sorted((shape(each) for each in module.parameters()), key=len, reverse=True)
    lone = [len(each) for each in shapes] in ([2], [2, 1])
    return shapes[0][0] if lone else None


def _is_matrix(module: nn.Module) -> bool:
    # Conv1D of transformers (GPT-2) is a linear map with its weight transposed. It is known by its
    # name and shape, so that this package needs torch alone.
    conv1d = type(module).__name__ == "Conv1D" and hasattr(module, "nf")
    return isinstance(module, nn.Linear) or conv1d


def _is_norm(module: nn.Module) -> bool:
    own = own_parameters(module)
    if "weight" not in own or not own.keys() <= {"weight", "bias"}:
        return False
    # A norm over heads has a 2-D weight in some models (Cohere).
    flat = all(len(shape(each)) == 1 for each in own.values())
    return flat or type(module).__name__.endswith("Norm")
