"""Runs jobs in forked processes, some of which kill themselves with SIGKILL at a chosen event.

Reads lines, each the path of a JSON file: ``root`` (storage root), ``out`` (folder of the results)
and ``jobs`` (a list, run in turn). Answers each line with ``done``; see ``jobs.Jobs``. Forking
spares the jobs the imports; this process itself starts no thread. A job has a ``name``, the number
of ``ranks``, what to ``do`` (``MODULE.FUNCTION``) and its arguments ``with``, or a ``command`` of
``hft-ray``, and may have

    path          folder of the module, if it is not this file's
    environment   variables of its processes
    record        count the lines run in each phase
    kill          ``rank``, ``phase``, ``at`` and ``of``: this rank dies at this share of the lines
                  that it ran in the phase in the job ``of``

Ranks write what they return to ``OUT/NAME-RANK.json``; ``OUT/exits.json`` has how all ended.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tempfile
import threading
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NoReturn

import torch
import torch._dynamo
import torch.distributed as dist
from transformers.models.llama import modeling_llama  # noqa: F401

import hft_ray
from hft_ray.ranks import Ranks
from hft_ray.training.process_group import start_deepspeed
from hft_ray.training.run_state import RunState
from hft_ray.training.selector import Selector

PHASES = {
    RunState.save.__code__: "checkpoint",
    Selector.begin.__code__: "select",
    RunState.step.__code__: "step",
    RunState.resume.__code__: "resume",
}
PACKAGE = str(Path(hft_ray.__file__).parent)


class Events:
    """Counts the lines run in the package by phase; may kill the process at one."""

    def __init__(self, kill: dict[str, Any] | None) -> None:
        self.counts: dict[str, int] = {}
        self.phase = "start"
        self.kill = (kill["phase"], kill["event"]) if kill else None
        self.ours: dict[CodeType, bool] = {}

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        """Trace the frames of the package; see ``sys.settrace``."""
        code = frame.f_code
        ours = self.ours.get(code)
        if ours is None:
            ours = self.ours[code] = code.co_filename.startswith(PACKAGE)
        if not ours:
            return None
        if code in PHASES:
            self.phase = PHASES[code]
        return self.inside

    def writing(self, frame: FrameType, event: str, _: object) -> Any:
        """Trace the thread that writes checkpoints, whose lines are a phase of their own."""
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        return self.inside_thread

    def inside_thread(self, frame: FrameType, event: str, _: object) -> Any:
        """Count a line of that thread."""
        self._count("write")
        return self.inside_thread

    def _count(self, phase: str) -> None:
        self.counts[phase] = self.counts.get(phase, 0) + 1
        if self.kill == (phase, self.counts[phase]):
            os.kill(os.getpid(), signal.SIGKILL)

    def inside(self, frame: FrameType, event: str, _: object) -> Any:
        """Count a line, or the return from a frame."""
        self._count(self.phase)
        if event == "return" and frame.f_code in PHASES:
            self.phase = "between"
        return self.inside


def rank_main(job: dict[str, Any], rank: int, root: Path, out: Path, meeting: str) -> None:
    """What one forked process does."""
    if "command" in job:
        os.environ |= job.get("environment", {})
        run_command(job["command"], out / f"{job['name']}.stderr")
    ranks, kill = Ranks(rank, job["ranks"]), job.get("kill")
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if "path" in job:
        sys.path.insert(0, job["path"])
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(ranks.size)}
    os.environ |= job.get("environment", {})
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks.size)
    start_deepspeed()
    events = Events(kill if kill and kill["rank"] == rank else None)
    if events.kill or job.get("record"):
        sys.settrace(events)
        threading.settrace(events.writing)
    module, function = job["do"].split(".")
    do = getattr(import_module(module), function)
    # Nor is what the fork has imported itself.
    gc.freeze()
    result = do(ranks, root, **job["with"])
    sys.settrace(None)
    threading.settrace(None)
    text = json.dumps({"result": result, "events": events.counts})
    (out / f"{job['name']}-{rank}.json").write_text(text, encoding="utf-8")
    dist.destroy_process_group()


def run_command(arguments: list[str], errors: Path) -> NoReturn:
    """Run ``hft-ray``, which ends the process."""
    with errors.open("w") as file:
        os.dup2(file.fileno(), 2)
    sys.argv = ["hft-ray", *arguments]
    import_module("hft_ray.cli.main").main()
    raise AssertionError("the command has not ended the process")


def fork(job: dict[str, Any], rank: int, root: Path, out: Path, meeting: str) -> int:
    """Start a rank; return its process id."""
    if process := os.fork():
        return process
    code = 1
    try:
        with (out / f"{job['name']}-{rank}.log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            rank_main(job, rank, root, out, meeting)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - a fork may not run what its parent has left to do
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def live(job: dict[str, Any], root: Path, out: Path) -> dict[str, Any]:
    """Run a job on its ranks; when one dies, end the others as torchrun does."""
    if kill := job.get("kill"):
        counts = json.loads((out / f"{kill['of']}-{kill['rank']}.json").read_text())["events"]
        kill["event"] = 1 + int(kill["at"] * counts[kill["phase"]])
    cpu = 0.0
    codes: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        left = {fork(job, rank, root, out, meeting): rank for rank in range(job["ranks"])}
        while left:
            process, status, used = os.wait4(-1, 0)
            rank = left.pop(process)
            cpu += used.ru_utime + used.ru_stime
            codes[rank] = os.waitstatus_to_exitcode(status)
            if codes[rank]:
                for other in left:
                    os.kill(other, signal.SIGTERM)
    return {"codes": [codes[rank] for rank in sorted(codes)], "cpu_seconds": cpu}


def main() -> None:
    torch.set_num_threads(1)
    # What is imported so far is garbage in no fork.
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(Path(line.strip()).read_text())
        root, out = Path(job["root"]), Path(job["out"])
        exits = {each["name"]: live(each, root, out) for each in job["jobs"]}
        (out / "exits.json").write_text(json.dumps(exits), encoding="utf-8")
        print("done", flush=True)


if __name__ == "__main__":
    main()
