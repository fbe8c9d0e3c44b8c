"""Kinds of model directory that people have, each made of a good one by one change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

Change = Callable[[Path], object]
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SMALL = {
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 96,
    "initializer_range": 0.2,
    "pad_token_id": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
LAYER = "model.layers.1.mlp.up_proj.weight"


def weights(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Change:
    """Change the tensors of the weights' file."""

    def apply(folder: Path) -> None:
        changed = change(load_file(folder / WEIGHTS))
        save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def prefixed(prefix: str) -> Change:
    return weights(lambda found: {prefix + key: value for key, value in found.items()})


def without(name: str) -> Change:
    return weights(lambda found: {key: value for key, value in found.items() if key != name})


def also(name: str, value: Tensor) -> Change:
    return weights(lambda found: found | {name: value})


def config(**settings: Any) -> Change:
    """Change settings of config.json."""

    def apply(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return apply


def removed(*names: str) -> Change:
    def apply(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return apply


def written(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content)


def both(*changes: Change) -> Change:
    def apply(folder: Path) -> None:
        for change in changes:
            change(folder)

    return apply


def family(kind: str, shards: str = "1GB", **settings: Any) -> Change:
    """Put a random model of another architecture in the place of the weights."""

    def apply(folder: Path) -> None:
        for name in ("config.json", WEIGHTS):
            (folder / name).unlink()
        made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL | settings))
        made.save_pretrained(folder, max_shard_size=shards)

    return apply


def described(kind: str, **settings: Any) -> Change:
    """Put the configuration of another architecture beside the weights."""
    return lambda folder: AutoConfig.for_model(kind, **settings).save_pretrained(folder)


def classifier(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    LlamaForSequenceClassification(LlamaConfig(**SMALL)).save_pretrained(folder)


def with_token(text: str, pads: bool = False) -> Change:
    """Add a token to the tokenizer alone."""

    def apply(folder: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if pads:
            tokenizer.add_special_tokens({"pad_token": text})
        else:
            tokenizer.add_tokens([text])
        tokenizer.save_pretrained(folder)

    return apply


def sharded(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def shard_lost(folder: Path) -> None:
    sharded(folder)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def bare_names(folder: Path) -> None:
    """GPT-2 as it was published: without the prefix of the base model, with masks as buffers."""
    family("gpt2", n_inner=48)(folder)
    path = folder / WEIGHTS
    found = {key.removeprefix("transformer."): each for key, each in load_file(path).items()}
    mask = torch.ones(1, 1, 96, 96).tril()
    save_file(found | {"h.0.attn.bias": mask}, path, metadata={"format": "pt"})


def link_broken(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(folder / "blobs" / "0")


def links(folder: Path) -> None:
    """As the hub's cache has it: every file is a link to a file elsewhere."""
    blobs = folder.with_name("blobs")
    blobs.mkdir()
    for path in list(folder.iterdir()):
        shutil.move(path, blobs / path.name)
        path.symlink_to(blobs / path.name)


def masked(kind: str, *names: str, **settings: Any) -> Change:
    """Store masks, as transformers did before they were made anew."""
    mask = torch.ones(1, 1, 96, 96).tril().bool()
    stored = {name: mask.clone() for name in names}
    return both(family(kind, **settings), weights(lambda found: found | stored))


TIED = config(tie_word_embeddings=True)
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"

REFUSED: dict[str, tuple[Change, list[str]]] = {
    "weight missing": (
        without(LAYER),
        [f"no weights for 1 parameters ({LAYER})", "save the whole model"],
    ),
    "head missing": (without("lm_head.weight"), ["(lm_head.weight)", "save the whole model"]),
    "weight renamed": (
        both(without(LAYER), also("model.layers.1.mlp.w3.weight", torch.zeros(45, 32))),
        [LAYER, "1 weights that it has no place for (model.layers.1.mlp.w3.weight)"],
    ),
    "names of torch.compile": (prefixed("_orig_mod."), ["`_orig_mod.`", "model._orig_mod"]),
    "names of DDP": (prefixed("module."), ["`module.`", "save model.module"]),
    "names of PEFT": (prefixed("base_model.model."), ["merge_and_unload()"]),
    "names of a wrapper": (prefixed("net."), ["net.lm_head.weight", "no weights for"]),
    "weight left over": (
        also("model.layers.9.mlp.up_proj.weight", torch.zeros(45, 32)),
        ["no place for (model.layers.9.mlp.up_proj.weight)"],
    ),
    "more layers than weights": (config(num_hidden_layers=5), ["model.layers.4.", "no weights"]),
    "weight of another shape": (
        both(without(LAYER), also(LAYER, torch.zeros(45, 31))),
        ["another shape", f"{LAYER}: [45, 31], not [45, 32]"],
    ),
    "vocabulary of another model": (
        config(vocab_size=330),
        ["lm_head.weight: [320, 32], not [330, 32]", "is the vocabulary another?"],
    ),
    "quantised": (
        config(quantization_config={"quant_method": "gptq", "bits": 4}),
        ["quantised weights (gptq)", "take the unquantised model"],
    ),
    "quantised in silence": (
        both(without(LAYER), also(LAYER, torch.zeros(45, 32).to(torch.float8_e4m3fn))),
        ["quantised weights (F8_E4M3", "take the unquantised model"],
    ),
    "scale of a quantised weight": (
        also(f"{LAYER}_scale_inv", torch.ones(1)),
        [f"no place for ({LAYER}_scale_inv)", "save the whole model"],
    ),
    "setting of the wrong type": (config(hidden_size="32"), ["hidden_size", "expected int"]),
    "setting of no meaning": (config(hidden_act="none"), ["no model can be built", "KeyError"]),
    "heads that do not divide": (config(num_attention_heads=5), ["not a multiple"]),
    "no heads": (config(num_attention_heads=0), ["ZeroDivisionError"]),
    "padding of config.json beyond the embedding": (
        config(pad_token_id=320),
        ["pad_token_id in config.json lies beyond vocab_size"],
    ),
    "link to nothing": (link_broken, [f"{WEIGHTS} is a link to a file that is not there"]),
    "index that leads elsewhere": (
        both(sharded, written(INDEX, '{"weight_map": {"a": "../base/model.safetensors"}}')),
        ["is not the name of a file in the directory"],
    ),
    "index of numbers": (
        both(sharded, written(INDEX, '{"weight_map": {"a": 1}}')),
        [f"{INDEX} cannot be read"],
    ),
    "adapter beside a model": (
        written("adapter_config.json", "{}"),
        ["holds a model and an adapter", "move the adapter's files away"],
    ),
    "tokenizer's settings are not a mapping": (
        written("tokenizer_config.json", "[1]"),
        ["the tokenizer cannot be loaded"],
    ),
    "encoder": (described("bert", **SMALL), ["bert is an encoder", "take a decoder"]),
    "encoder-decoder": (described("t5", vocab_size=320), ["t5 is an encoder-decoder"]),
    "encoder-decoder with a decoder's class": (described("bart"), ["bart is an encoder-decoder"]),
    "vision and language": (described("llava"), ["is not a causal language model"]),
    "attention to both sides": (config(is_causal=False), ["attention to what follows"]),
    "classifier": (classifier, ["LlamaForSequenceClassification", "not a causal language model"]),
    "adapter": (
        both(emptied, written("adapter_config.json", "{}")),
        ["an adapter, not a whole model", "merge_and_unload()"],
    ),
    "empty": (emptied, ["it has no config.json"]),
    "LFS pointers": (written(WEIGHTS, POINTER), ["Git LFS pointers", "`git lfs pull`"]),
    "shard missing": (shard_lost, ["lacks 1 of", "model-00002-of", "copy or download"]),
    "index broken": (both(sharded, written(INDEX, "{}")), [f"{INDEX} cannot be read"]),
    "file truncated": (truncated, [f"{WEIGHTS} is truncated or damaged", "download it again"]),
    "pickles": (pickled, ["pickled ones are not loaded", "convert them"]),
    "weights under another name": (
        lambda folder: (folder / WEIGHTS).rename(folder / "consolidated.safetensors"),
        ["only consolidated.safetensors", "save_pretrained()"],
    ),
    "no tokenizer": (
        removed("tokenizer.json", "tokenizer_config.json"),
        ["the model directory has no tokenizer", "save the model's own tokenizer"],
    ),
    "tokenizer of no words": (
        written(
            "tokenizer.json", '{"model": {"type": "WordLevel", "vocab": {}, "unk_token": "x"}}'
        ),
        ["save the model's own tokenizer"],
    ),
    "slow tokenizer": (
        both(
            removed("tokenizer.json"),
            written("tokenizer_config.json", '{"tokenizer_class": "ByT5Tokenizer"}'),
        ),
        ["no fast tokenizer", "tokenizer.json"],
    ),
    "config broken": (written("config.json", '{"model_type": '), ["config.json cannot be read"]),
    "type unknown": (config(model_type="llama9"), ["llama9", "update transformers"]),
    "code beside the weights": (
        config(model_type="mine", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "m.M"}),
        ["model.trust_remote_code"],
    ),
    "router's loss without its weight": (
        config(output_router_logits=True),
        ["router_aux_loss_coef", "set output_router_logits to false"],
    ),
    "tokens beyond the embedding": (
        with_token("<call>"),
        ["beyond the model's 320 embeddings: '<call>' (id 320)", "resize_token_embeddings"],
    ),
    "too few positions": (
        family("gpt2", n_inner=48, max_position_embeddings=8),
        ["data.max_length", "the model has 8 positions"],
    ),
}
"""Kind -> the change that makes it, and what is said of it."""

ACCEPTED: dict[str, Change] = {
    "as it is": lambda folder: None,
    "tied, head not stored": both(TIED, without("lm_head.weight")),
    "tied, head stored as well": both(
        TIED,
        weights(lambda all_: all_ | {"lm_head.weight": all_["model.embed_tokens.weight"].clone()}),
    ),
    "bf16": weights(lambda found: {key: each.bfloat16() for key, each in found.items()}),
    "fp16": weights(lambda found: {key: each.half() for key, each in found.items()}),
    "sharded": sharded,
    "frequencies of a former version": also(
        "model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(4)
    ),
    "published names of GPT-2": bare_names,
    "experts one by one": family("mixtral", **EXPERTS),
    "tokens that nothing uses": with_token("<unused>"),
    "padding beyond the embedding": with_token("[PAD]", pads=True),
    "links of the hub's cache": links,
    "masks of GPT-2": masked("gpt2", "transformer.h.0.attn.masked_bias", n_inner=48),
    "masks of GPT-J": masked(
        "gptj",
        "transformer.h.0.attn.bias",
        "transformer.h.0.attn.masked_bias",
        n_inner=48,
        rotary_dim=4,
    ),
    "pointers to weights that are not read": written("consolidated.safetensors", POINTER),
    "pickles beside": lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"),
}
