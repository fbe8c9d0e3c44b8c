"""``hft-ray train`` killed from outside with SIGKILL, then started again with ``--resume``."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml

CHANGES = {
    "selection": {"reselect": 4},
    "cluster": {"cpus_per_worker": 1},
}
SETTINGS = {"steps": 20, "checkpoint_every": 3, "zero_stage": 2, "moments": "keep_selected"}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def arguments(folder, file, *options):
    """Return those of ``hft-ray``."""
    path = folder / "run.yaml"
    training = file["training"] | SETTINGS
    path.write_text(yaml.safe_dump(file | CHANGES | {"training": training}))
    return ["train", str(path), "--out", str(folder / "out"), *options]


def command(folder, file, ranks, *options):
    launcher = TORCHRUN if ranks > 1 else ()
    return [sys.executable, *launcher, "-m", "hft_ray", *arguments(folder, file, *options)]


def start(folder, command):
    env = os.environ | {"OMP_NUM_THREADS": "1", "HFT_RAY_HOME": str(folder / "home")}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=env)


def finished(folder, command):
    process = start(folder, command)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text[-4000:]
    return text


def kill_a_rank(process, rng):
    """Kill one of the processes that train: torchrun's children, or the one there is."""
    ranks = [
        each
        for each in psutil.Process(process.pid).children()
        if "hft_ray" in " ".join(each.cmdline())
    ] or [psutil.Process(process.pid)]
    rng.choice(ranks).send_signal(signal.SIGKILL)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_command_that_is_killed_goes_on_to_the_same_model(tiny_file, tmp_path, ranks):
    rng = random.Random(ranks)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    finished(whole, command(whole, tiny_file, ranks))
    for number in range(3):
        process = start(killed, command(killed, tiny_file, ranks, "--resume"))
        last = 5 * (number + 1)
        for line in process.stdout:
            if found := re.match(r"step (\d+) ", line):
                assert int(found[1]) <= last
                if int(found[1]) == last:
                    break
        time.sleep(rng.random() / 5)
        kill_a_rank(process, rng)
        process.communicate(timeout=120)
        assert process.returncode != 0
        assert not (killed / "out" / "result.json").exists()
    text = finished(killed, command(killed, tiny_file, ranks, "--resume"))
    assert re.search(r"resuming from .*step-000000\d\d, step 1[58] of 20", text), text
    names = [folder / "out" / "model" / "model.safetensors" for folder in (whole, killed)]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_without_a_checkpoint_the_run_starts_afresh_and_says_so(jobs, tiny_file, tmp_path):
    options = ("--resume", "--set", "training.steps=2", "--set", "evaluation={}")
    home = str(tmp_path / "home")
    done = jobs.command(tmp_path, *arguments(tmp_path, tiny_file, *options), HFT_RAY_HOME=home)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert text.startswith("no checkpoint in ")
    assert "starting afresh" in text
    assert "step 1 " in text
