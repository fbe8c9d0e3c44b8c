"""Peak memory: a tensor or a shard, not the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from weights_models import make, tune

SCRIPT = """
import json, sys
from pathlib import Path
from hft_ray.config import Selection
from hft_ray.weights import apply_delta, average, half_reset, write_delta
from hft_ray.weights import model_files
from hft_ray.weights.pairing import shape_of

def status(key):
    return int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0]) * 1024

# The base is one file; for its size to show, as that of 70 billion parameters would.
model_files.MOST_MAPPED = 1 << 21
root = Path(sys.argv[1])
tuned, base = root / "tuned", root / "base"
shape_of(model_files.ModelFiles(tuned, "TUNED"))
before = status("VmRSS")
average(tuned, base, 0.5, root / "average")
half_reset(tuned, base, Selection(), root / "reset")
write_delta(tuned, base, root / "delta")
apply_delta(root / "delta", base, root / "whole")
# The peak of this program, imports included: an upper bound of what the work took. (Not
# getrusage: its ru_maxrss begins with the size of the process that started this one.)
print(json.dumps({"grown": status("VmHWM") - before}))
"""


def test_peak_memory_is_a_few_shards_whatever_the_model(tmp_path):
    model = make("llama", hidden_size=128, intermediate_size=2048, num_hidden_layers=24)
    model.save_pretrained(tmp_path / "base")
    only = tuple(f"layers.{index}." for index in range(0, 24, 2))
    tune(model, only=only).save_pretrained(tmp_path / "tuned", max_shard_size="4MB")
    files = list((tmp_path / "tuned").glob("*.safetensors"))
    total = sum(path.stat().st_size for path in files)
    largest = max(path.stat().st_size for path in files)
    assert len(files) > 20 and total > 20 * largest
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    grown = json.loads(done.stdout.splitlines()[-1])["grown"]
    assert grown < total / 3, f"{grown / 2**20:.0f} MiB for {total / 2**20:.0f} MiB"
