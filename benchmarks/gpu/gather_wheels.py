"""Gathers the wheels that a bare CUDA machine lacks, at the versions of constraints.txt.

    python benchmarks/gpu/gather_wheels.py .whl

Needs a package index, and the packages of this environment for the two that have no wheel. The
machine is taken to have Python 3.12 on x86-64 with PyTorch, and what PyTorch, transformers,
datasets and accelerate need of compiled packages (NumPy, pandas, PyArrow). Install there with

    python3 -m pip install --no-index --no-deps --target /tmp/site .whl/*.whl
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PURE_OR_BUILT = (
    "annotated-types",
    "datasets",
    "dill",
    "filelock",
    "hf-xet",
    "hjson",
    "httpcore2",
    "httpx2",
    "huggingface-hub",
    "liger-kernel",
    "moocore",
    "multiprocess",
    "nltk",
    "py-cpuinfo",
    "pydantic",
    "pydantic-core",
    "rapidfuzz",
    "safetensors",
    "tokenizers",
    "transformers",
    "trl",
    "truststore",
    "typing-inspection",
)
SOURCE_ONLY = ("deepspeed", "rouge-score")
PLATFORMS = ("2_34", "2_31", "2_28", "2_27", "2_24", "2_17")


def pinned(names: tuple[str, ...]) -> list[str]:
    """Return the requirements of constraints.txt for ``names``."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    versions = {line.split("==")[0].lower(): line for line in lines if "==" in line}
    return [versions[name] for name in names]


def main() -> int:
    """Fill the folder; return the exit code."""
    folder = sys.argv[1] if len(sys.argv) > 1 else ".whl"
    pip = [sys.executable, "-m", "pip"]
    platforms = [f"--platform=manylinux_{each}_x86_64" for each in PLATFORMS]
    platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    options = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", *platforms]
    subprocess.run(
        [*pip, "download", "-q", *options, "-d", folder, *pinned(PURE_OR_BUILT)], check=True
    )
    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run([*pip, *build, *pinned(SOURCE_ONLY)], check=True)
    size = sum(file.stat().st_size for file in Path(folder).glob("*.whl"))
    print(f"{folder}: {size / 2**20:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
