"""The steps of the image's Dockerfile that install Python packages, in a clean virtual environment.

No container is built: the base image, its Ray and the compilers of Debian are not looked at.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "clusters" / "image" / "Dockerfile"


def steps() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with what follows them, comments left out."""
    lines = DOCKERFILE.read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n", "", text).splitlines()
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined) if word
    ]


def test_the_steps_are_those_that_are_known():
    """What the test below leaves out, or does not know, would not be seen otherwise."""
    runs = [rest for word, rest in steps() if word == "RUN"]
    assert [run.startswith("apt-get") for run in runs] == [True, False, False, False]
    assert {word for word, _ in steps()} <= {"ARG", "FROM", "USER", "RUN", "WORKDIR", "COPY", "ENV"}


@pytest.fixture
def image(tmp_path):
    """The environment of a shell in the image: an own Python, and the arguments of the build."""
    venv.create(tmp_path / "venv", with_pip=True)
    arguments = dict(rest.split("=", 1) for word, rest in steps() if word == "ARG" and "=" in rest)
    arguments = {name: value.strip('"') for name, value in arguments.items()}
    # That of the torch which the index gives here.
    cuda = torch.version.cuda
    arguments["CUDA"] = "cpu" if cuda is None else f"cu{cuda.replace('.', '')}"
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    home = {"HOME": str(tmp_path), "PIP_CACHE_DIR": str(tmp_path / "cache")}
    path = f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return kept | home | arguments | {"PATH": path, "VIRTUAL_ENV": str(tmp_path / "venv")}


def copy(arguments: str, place: Path) -> None:
    """Do what a COPY does whose sources are in the repository."""
    *sources, _ = [each for each in arguments.split() if not each.startswith("--")]
    target = arguments.split()[-1]
    for source in sources:
        path = REPOSITORY / source
        if path.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, place / target, ignore=ignore)
        else:
            shutil.copy(path, place / target)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_every_step_installs_what_the_next_one_needs(image, tmp_path):
    place = tmp_path / "hft-ray"
    place.mkdir()

    def run(command):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=place,
            env=image,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    for word, rest in steps():
        if word == "COPY":
            copy(rest, place)
        elif word == "RUN" and not rest.startswith("apt-get"):
            run(rest)
    wanted = dict(
        line.split("==")
        for line in (place / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    frozen = dict(line.split("==") for line in run("pip freeze --all").splitlines() if "==" in line)
    found = {name.lower().replace("_", "-"): version for name, version in frozen.items()}
    for name, version in found.items():
        if name not in ("pip", "hft-ray", "wheel"):
            assert wanted[name] == version.partition("+")[0], name
    assert {"ray", "torch", "deepspeed", "psycopg", "mlflow"} <= found.keys()
    assert "tune" in run("hft-ray --help")
    # Compiled beforehand, as the image promises.
    look = (
        "from deepspeed.git_version_info import installed_ops as ops; print(bool(ops['cpu_adam']))"
    )
    assert run(f'python -c "{look}"').split()[-1] == "True"
