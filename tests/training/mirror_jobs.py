"""Runs whose storage is lost, damaged, full, closed or away (jobs of ``lives_worker``)."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from hft_ray.artifacts.mirror import Mirror
from hft_ray.config import Config
from hft_ray.orchestration.diagnosis import classify
from hft_ray.orchestration.faults import explained
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace
from hft_ray.training.checkpoint_reader import CheckpointReader
from hft_ray.training.run import run

NOBODY = 65534


class Case:
    """Runs of one FILE with one folder of checkpoints."""

    def __init__(self, job, ranks: Ranks, name: str, place: Mirror | None) -> None:
        self.config = Config.model_validate(job["file"])
        self.workspace = Workspace(Path(job["root"]), ranks, torch.device("cpu"))
        self.folder, self.place = Path(job["out"]) / name, place
        self.steps: list[int] = []
        self.saved: list[int] = []

    def run(self, at=None, do=lambda: True):
        """Run; after step ``at`` do something, whose answer says whether to stop."""
        self.steps, self.saved, losses = [], [], []

        def report(step, metrics, scored, last):
            self.steps.append(step)
            losses.append(metrics["train/loss"])
            if step != at:
                return False
            while at - 1 not in self.saved:  # it is written in the background
                time.sleep(0.01)
            return bool(do())

        told = Told()
        try:
            more = {"mirror": self.place, "saved": self.saved.append}
            run(self.config, self.workspace, report, None, self.folder, **more)
        except Exception as error:  # noqa: BLE001 - which one it is, is the question
            fault = classify(error)
            reason = explained(f"{type(error).__name__}: {error}", fault)
            reader = CheckpointReader(Ranks(), self.workspace.device)
            found, _ = reader.newest(self.folder, None)
            whole = str(found.path if found else None)
            return {"steps": self.steps, "fault": fault, "reason": reason, "whole": whole}
        finally:
            told.close()
        return {"steps": self.steps, "losses": losses, "told": told.lines}


class Told(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        logging.getLogger("hft_ray.training").addHandler(self)

    def emit(self, record) -> None:
        self.lines.append(record.getMessage())

    def close(self) -> None:
        logging.getLogger("hft_ray.training").removeHandler(self)


def lost(job, ranks):
    place = Mirror("s3://hft") / "lost"
    results = {"undisturbed": Case(job, ranks, "undisturbed", None).run()}
    case = Case(job, ranks, "lost", place)
    results["stopped"] = case.run(at=5)
    results["names"] = place.names()
    shutil.rmtree(case.folder)
    results["resumed"] = case.run()
    shutil.rmtree(case.folder)
    store, path = place.located("step-00000004/state-00000-00000.safetensors")
    with store.open_input_stream(path) as source:
        content = bytearray(source.read())
    content[-1] ^= 1
    with store.open_output_stream(path) as target:
        target.write(bytes(content))
    results["damaged"] = case.run()
    results["local"] = sorted(each.name for each in case.folder.iterdir())
    return results


def away(job, ranks):
    case = Case(job, ranks, "away", Mirror("s3://hft") / "away")

    def cut():
        os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        return False

    return {"midway": case.run(at=3, do=cut), "fresh": Case(job, ranks, "fresh", case.place).run()}


def full(job, ranks):
    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    case = Case(job, ranks, "full", None)
    failed = case.run(at=3, do=fill)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    return {"failed": failed, "afterwards": case.run()}


def closed(job, ranks):
    case = Case(job, ranks, "closed", None)
    module = sys.modules["hft_ray.training.checkpoint_writer"]
    write = module.CheckpointWriter._write

    def as_somebody_else(*arguments):
        # Root may write everywhere.
        if os.getuid() == 0:
            os.seteuid(NOBODY)
        try:
            return write(*arguments)
        finally:
            os.seteuid(os.getuid())

    def close():
        case.folder.chmod(0o555)
        module.CheckpointWriter._write = as_somebody_else

    case.folder.mkdir(parents=True)
    failed = case.run(at=3, do=close)
    module.CheckpointWriter._write = write
    case.folder.chmod(0o755)
    return {"failed": failed, "afterwards": case.run()}


def storage(ranks: Ranks, root: Path, file: dict[str, Any], out: str) -> dict[str, Any]:
    """Do all of the above with one FILE."""
    job = {"file": file, "root": str(root), "out": out}
    return {each.__name__: each(job, ranks) for each in (lost, full, closed, away)}
