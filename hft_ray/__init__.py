"""hft-ray: fine-tune a language model with the least forgetting."""

import os

__version__ = "0.1.0"

# DeepSpeed imports MLflow through its autotuner; neither is to send or print anything of its own.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
