"""DeepSpeed keeps what :mod:`hft_ray.compat.deepspeed` relies on.

That optimizer states are where it looks for them is what ``tests/training`` checks, in every stage.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import deepspeed
import pytest
from deepspeed.runtime.engine import DeepSpeedEngine
from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer
from deepspeed.runtime.zero import parameter_offload, stage3, stage_1_and_2
from deepspeed.utils import mixed_precision_linkage

from hft_ray.compat.deepspeed import build_no_shared_memory_operator, release_cache

VERSIONS = "hft_ray/compat/deepspeed.py holds for DeepSpeed 0.19"


def set_in(source):
    """Return the attributes that a module or class sets, by assignment or in ``setattr``."""
    tree = ast.parse(inspect.getsource(source))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (mixed_precision_linkage, {"_hp_mapping"}),
        (DeepSpeedEngine, {"module_forward_pre_hook", "module_forward_post_hook"}),
        (parameter_offload, {"pre_bwd_fn", "post_bwd_fn", "applied_pre_backward_ref_cnt"}),
        (
            stage_1_and_2.DeepSpeedZeroOptimizer,
            {"bit16_groups", "single_partition_of_fp32_groups", "optimizer"},
        ),
        (
            stage3.DeepSpeedZeroOptimizer_Stage3,
            {"sub_group_to_group_id", "fp32_partitioned_groups_flat", "optimizer"},
        ),
    ],
)
def test_deepspeed_sets_the_attributes_that_we_read(source, names):
    lacking = names - set_in(source)
    assert not lacking, f"{source.__name__} does not set {sorted(lacking)}; {VERSIONS}"


@pytest.mark.parametrize("name", ["fp16_groups", "fp32_groups"])
def test_an_optimizer_without_zero_has_groups_of_both_types(name):
    assert name in set_in(FP16_UnfusedOptimizer), VERSIONS


def test_zero_3_lists_modules_in_the_process():
    assert isinstance(parameter_offload.FWD_MODULE_STACK, list), VERSIONS


def test_the_cache_that_holds_engines_can_be_cleared():
    assert release_cache().cache_info().maxsize is None, VERSIONS


def test_the_operator_for_shared_memory_is_switched_off():
    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__, VERSIONS
    build_no_shared_memory_operator()
    assert not deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"]


def test_muon_is_imported_without_inductor_and_torch_compiles_afterwards():
    code = """
import os, sys, torch
from hft_ray.compat.deepspeed import import_muon_uncompiled
import_muon_uncompiled()
print("deepspeed.runtime.zero.muon.original_muon" in sys.modules)
print("torch._inductor.compile_fx" in sys.modules, "TORCHDYNAMO_DISABLE" in os.environ)
def backend(graph, inputs):
    print("compiled")
    return graph
torch.compile(lambda x: x + 1, backend=backend)(torch.ones(2))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split()[-4:] == ["True", "False", "False", "compiled"], VERSIONS
