"""Where the libraries' chatter goes: a log file, not the terminal."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

NOISY = ("ray", "ray.tune", "ray.train", "ray.data", "DeepSpeed", "mlflow", "alembic", "optuna")


def log_to(file: Path) -> None:
    """Send all logging and warnings of this process to ``file``, appending."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default")
    quiet_loggers()
    disable_progress_bar()


def quiet_loggers() -> None:
    """Take the terminal from loggers that the libraries made for themselves; keep the log file."""
    terminal = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    for name in [*NOISY, *logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if isinstance(handler, logging.StreamHandler) and handler.stream in terminal:
                logger.removeHandler(handler)
                logger.propagate = True
