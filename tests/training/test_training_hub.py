"""A model by its hub name, from a hub on loopback: fetched once, and known by its commit."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import pytest

from hft_ray.data import locate

NAME = "somebody/facts"
COMMIT, LATER = "c" * 40, "d" * 40
LOAD = f"""
import sys
import torch
from pathlib import Path
from hft_ray.config import Model
from hft_ray.training.hub import pinned_model
from hft_ray.training.models import find_model, load_model, load_tokenizer
model = Model(name="{NAME}", revision="main")
source = find_model(model, Path(sys.argv[1]))
model = pinned_model(model)
print(load_tokenizer(model, source).vocab_size)
print(sum(x.double().sum().item() for x in load_model(model, source, torch.float32).parameters()))
"""

KNOW = f"""
import json, os, sys, torch
from pathlib import Path
from urllib.request import urlopen
from hft_ray.config import Config, ConfigError
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace
from hft_ray.training.hub import pinned

def known(**model):
    file = dict(name="x", model=model, data=dict(train="x.jsonl"))
    config = Config.model_validate(file)
    workspace = Workspace(Path(sys.argv[1]), Ranks(), torch.device("cpu"))
    try:
        found = workspace.weights_hash(config.model)
    except ConfigError as error:
        found = str(error)
    return [pinned(config).model.revision, found]

def tell(what):
    urlopen(os.environ["HF_ENDPOINT"] + what).read()

said = [known(name="somebody/else"), known(name="{NAME}")]
tell("/move")
said += [known(name="{NAME}", revision="main"), known(name="{NAME}", revision="{COMMIT}")]
tell("/down")
said += [known(name="{NAME}")]
print(json.dumps(said))
"""


class Hub(ThreadingHTTPServer):
    """One model as the Hugging Face hub serves it; counts what is fetched.

    Args:
        folder: The model's files.
    """

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.fetched, self.lock = folder, Counter(), Lock()
        self.commit, self.down = COMMIT, False
        Thread(target=self.serve_forever, daemon=True).start()


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        if self.path in ("/move", "/down"):
            self.server.commit, self.server.down = LATER, self.path == "/down"
            self.say(200, {})
            return
        if self.server.down:
            self.say(503, {})
            return
        if self.path.partition("?")[0].removesuffix("/revision/main") == f"/api/models/{NAME}":
            self.say(200, {"id": NAME, "sha": self.server.commit, "siblings": []})
            return
        path = self.path.replace(self.server.commit, "main")
        place, _, name = path.partition("/resolve/main/")
        if place != f"/{NAME}" or not (path := self.server.folder / name).is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", self.server.commit)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.commit)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            with self.server.lock:
                self.server.fetched[name] += 1
            self.wfile.write(content)

    def say(self, status, told):
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with Hub(locate("package:hft_ray/demo/model", "model.name")) as server:
        yield server
        server.shutdown()


@pytest.fixture
def environment(hub, tmp_path):
    return os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path / "node"),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
    }


def test_the_workers_of_a_node_fetch_a_model_once(hub, environment, tmp_path):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD, str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [worker.communicate(timeout=240) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert hub.fetched["model.safetensors"] == hub.fetched["tokenizer.json"] == 1


def test_a_repository_that_moves_is_another_model(hub, environment, tmp_path):
    """Base scores, DPO's references and checkpoints lie under the hash; FILE's revision is told."""

    command = [sys.executable, "-c", KNOW, str(tmp_path)]
    said = subprocess.check_output(command, env=environment, text=True, timeout=240)
    unknown, first, moved, kept, away = json.loads(said.splitlines()[-1])
    assert unknown[0] is None
    assert "its commit on the hub cannot be found" in unknown[1]
    assert (first[0], moved[0]) == (COMMIT, LATER)
    assert first[1] != moved[1]
    # A sweep that has begun goes on with its commit; without a hub the last one known is taken.
    assert kept == first
    assert away == moved
