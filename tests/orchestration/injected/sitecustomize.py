"""Faults put into the processes of a sweep from outside: Python imports this at every start.

It does nothing unless ``INJECTED`` names a folder. There ``SWEEP.json`` lists faults, each
``{"what", "trial", "moment", "rank", "step", "times"}``; every process of the sweep meets them at
these moments:

- ``step``: before an optimizer step; ``collective``: inside one, where the ranks add up gradients
- ``checkpoint``: when a file of a checkpoint is half written
- ``front``: when the front is about to be logged, in the driver; ``report``: while it is written

``hold`` waits there until the file ``until`` is made, in which time the test does something.
Every optimizer step that was made is a line of ``SWEEP.steps``: trial, step, rank; every
encoding of a training set is one of ``encoded``.

Files ``tracking``, ``mirror``, ``requests`` and ``nodes`` there say how often this work in the
background raises.
"""

from __future__ import annotations

import errno
import importlib.abc
import importlib.machinery
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("INJECTED", "/nowhere"))


class Now:
    """What this process is at."""

    sweep = trial = ""
    rank = step = 0
    armed = None
    model = None


def due(moment, step=None):
    """Return the fault that is to happen now, if any; each happens so many times and no more."""
    at = Now.step if step is None else step
    plan = FOLDER / f"{Now.sweep}.json"
    if not plan.is_file():
        return None
    for number, fault in enumerate(json.loads(plan.read_text())):
        wanted = {"rank": 0, "step": at, "trial": Now.trial, **fault}
        if (moment, Now.trial, Now.rank, at) != tuple(
            wanted[key] for key in ("moment", "trial", "rank", "step")
        ):
            continue
        for time_ in range(fault.get("times", 1)):
            try:
                (FOLDER / f"{Now.sweep}-{number}-{time_}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return fault
    return None


def happen(fault):
    """Have a fault happen to this process."""
    match fault["what"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            import torch

            torch.empty(1 << 60)
        case "nan":
            import torch

            with torch.no_grad():
                next(each for each in Now.model.parameters() if each.requires_grad).fill_(torch.nan)
        case "data":
            from hft_ray.data.records import read_records

            broken = FOLDER / "broken.jsonl"
            broken.write_text("{")
            read_records(str(broken), path="data.train", split="train", limit=None)
        case "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case "away":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        case "pause":
            time.sleep(fault["seconds"])
        case "hold":
            while not (FOLDER / fault["until"]).exists():
                time.sleep(0.1)


def meet(moment):
    if (fault := due(moment)) is not None:
        happen(fault)


def wrap_worker(module):
    train, score_base = module.run, module.run_base

    def begin(trial, config, workspace):
        Now.sweep, Now.trial = config.name, trial
        Now.rank, Now.step = workspace.ranks.rank, 0

    def run(config, workspace, report, *, checkpoints, **keywords):
        begin(checkpoints.name, config, workspace)
        return train(config, workspace, report, checkpoints=checkpoints, **keywords)

    def run_base(config, workspace, items):
        begin("base", config, workspace)
        return score_base(config, workspace, items)

    module.run, module.run_base = run, run_base


def wrap_run(module):
    make_step = module.RunState.step

    def step(self, number):
        import torch.distributed as dist

        Now.step, Now.model = number, self.model
        meet("step")
        if (fault := due("collective")) is not None:
            reduce = dist.all_reduce

            def all_reduce(*arguments, **keywords):
                dist.all_reduce = reduce
                happen(fault)
                return reduce(*arguments, **keywords)

            dist.all_reduce = all_reduce
        make_step(self, number)
        with (FOLDER / f"{Now.sweep}.steps").open("a") as file:
            file.write(f"{Now.trial} {number} {Now.rank}\n")

    module.RunState.step = step


def wrap_tensor_files(module):
    save_file = module.save_file

    def save(shard, path):
        save_file(shard, path)
        # Of a checkpoint; training has made further steps meanwhile.
        done = re.search(r"step-(\d+)", path.parent.name)
        if (fault := due("checkpoint", int(done[1]) - 1 if done else None)) is not None:
            os.truncate(path, path.stat().st_size // 2)
            happen(fault)

    module.save_file = save


def wrap_cache(module):
    once = module.once

    def counted(root, key, make):
        def making():
            with (FOLDER / "encoded").open("a") as file:
                file.write(f"{os.getpid()}\n")
            return make()

        return once(root, key, making)

    module.once = counted


def wrap_record(module):
    begin = module.Recorder.__init__
    log_front, write_report = module.Recorder.log_front, module.Recorder.write_report
    write_front = module.write_front

    def beginning(self, config, *arguments, **keywords):
        Now.sweep = config.name
        begin(self, config, *arguments, **keywords)

    def logging_front(self, front, finished):
        Now.step = finished
        meet("front")
        log_front(self, front, finished)

    def writing_report(self, trials):
        Now.step = 0
        return write_report(self, trials)

    def writing_front(*arguments):
        meet("report")
        return write_front(*arguments)

    module.Recorder.__init__ = beginning
    module.Recorder.log_front = logging_front
    module.Recorder.write_report = writing_report
    module.write_front = writing_front


def strike(work):
    """Raise for background work as often as the file of its name says; a negative number: always.

    Each kind of work is one thread or task of one process.
    """
    left = FOLDER / work
    if left.is_file() and (count := int(left.read_text())):
        left.write_text(str(count - 1))
        raise TypeError(f"injected into {work}")


def striking(work, call):
    def strike_first(*arguments, **keywords):
        strike(work)
        return call(*arguments, **keywords)

    return strike_first


def wrap_store(module):
    module.Store.write = striking("tracking", module.Store.write)


def wrap_mirror(module):
    worker = module.Worker
    module.Worker = lambda work, step, *rest: worker(work, striking("mirror", step), *rest)


def wrap_requests(module):
    module.StopRequests.poll = striking("requests", module.StopRequests.poll)


def wrap_dispatcher(module):
    begin = module.DispatcherActor.__init__

    def beginning(self, groups, retries):
        begin(self, groups, retries, striking("nodes", module.look_at_nodes))

    module.DispatcherActor.__init__ = beginning


def wrap_pictures(module):
    module.render_selection = striking("pictures", module.render_selection)


WRAPPED = {
    "hft_ray.orchestration.trial_pictures": wrap_pictures,
    "hft_ray.tracking.store": wrap_store,
    "hft_ray.tracking.requests": wrap_requests,
    "hft_ray.orchestration.sweep_mirror": wrap_mirror,
    "hft_ray.orchestration.dispatcher": wrap_dispatcher,
    "hft_ray.orchestration.worker": wrap_worker,
    "hft_ray.training.run_state": wrap_run,
    "hft_ray.training.tensor_files": wrap_tensor_files,
    "hft_ray.orchestration.recorder": wrap_record,
    "hft_ray.data.cache": wrap_cache,
}


class Finder(importlib.abc.MetaPathFinder):
    """Finds modules as usual, and wraps functions of some once they are loaded."""

    def find_spec(self, name, path, target=None):
        if name not in WRAPPED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            WRAPPED[name](module)

        spec.loader.exec_module = exec_module
        return spec


if FOLDER.is_dir():
    sys.meta_path.insert(0, Finder())
