"""Checks and times hft-ray on one GPU, part by part, and writes one JSON.

    python benchmarks/gpu/kit.py --out results
    python benchmarks/gpu/kit.py --out results --tiny    # the same on a CPU, with tiny shapes

Each part runs in a process of its own with a limit of its own: one that fails or hangs takes
nothing from the others. Every row is printed and written as soon as it is there. Exits with 1 when
a part failed or a row says that something is wrong (``ok`` is false).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PARTS = {
    "correctness": 150,
    "speed": 120,
    "kernels": 90,
    "large": 60,
    "trainers": 60,
    "demo": 90,
}
"""Part -> the most seconds it may take."""

Row = dict[str, Any]


def machine() -> Row:
    """Return what the figures depend on."""
    import torch

    found: Row = {
        "date": f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    for name in ("torch", "deepspeed", "transformers", "liger-kernel", "trl"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["gpu_bytes"] = torch.cuda.get_device_properties(0).total_memory
    return found


def main() -> int:
    """Run the parts, or be one of them; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-results"))
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, for a CPU")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=420, help="limit of all parts together")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
    if options.part:
        return child(options.part, options.tiny)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    results: Row = {"machine": machine(), "command": " ".join(sys.argv), "parts": {}}
    print(json.dumps(results["machine"]), flush=True)
    for part in options.parts.split(","):
        left = options.seconds - (time.monotonic() - started)
        found: Row = {"rows": [], "error": None, "seconds": 0.0}
        results["parts"][part] = found

        def keep(row: Row, rows: list[Row] = found["rows"]) -> None:
            rows.append(row)
            save(options.out, results)

        begun = time.monotonic()
        found["error"] = "no time left" if left < 5 else run(part, options, left, keep)
        found["seconds"] = round(time.monotonic() - begun, 1)
        print(f"== {part}: {found['seconds']} s, error: {found['error']}", flush=True)
        save(options.out, results)
    bad = [
        part
        for part, found in results["parts"].items()
        if found["error"] or any(row.get("ok") is False for row in found["rows"])
    ]
    print(f"== all: {time.monotonic() - started:.0f} s, wrong: {', '.join(bad) or 'nothing'}")
    return 1 if bad else 0


def save(out: Path, results: Row) -> None:
    """Write what is there."""
    (out / "gpu.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


def run(part: str, options: Any, left: float, keep: Callable[[Row], None]) -> str | None:
    """Run a part in a process of its own; return what went wrong."""
    limit = min(PARTS[part], left)
    command = [sys.executable, "-u", __file__, "--part", part]
    log = options.out / f"{part}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command, *(["--tiny"] if options.tiny else [])],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Deterministic matrix products; read when cuBLAS starts.
            env=os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONWARNINGS": "ignore"},
        )
        timer = threading.Timer(limit, process.kill)
        timer.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ROW "):
                row = json.loads(line.removeprefix("ROW "))
                print(f"{part}: {json.dumps(row)}", flush=True)
                keep(row)
        code = process.wait()
        late = not timer.is_alive()
        timer.cancel()
    if code == 0:
        return None
    tail = log.read_text(errors="replace")[-1500:]
    print(tail, flush=True)
    return f"longer than {limit:.0f} s" if late else f"exit code {code}: {tail[-300:]}"


def child(part: str, tiny: bool) -> int:
    """Be a part: print its rows."""
    rows: Callable[[bool], Iterator[Row]] = import_module(f"part_{part}").rows
    for row in rows(tiny):
        print("ROW " + json.dumps(row), flush=True)
    sys.stdout.flush()
    os._exit(0)  # a thread of gloo's may outlive its process group and abort the end


if __name__ == "__main__":
    sys.exit(main())
