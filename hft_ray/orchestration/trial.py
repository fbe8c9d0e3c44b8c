"""Ray Tune's side of a trial: thin, it hands its config to the dispatcher and relays what comes."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import ray
from ray import tune

from hft_ray.orchestration.dispatcher import find


class ThinTrial(tune.Trainable):
    """A trial whose work is done by a worker group; it holds no model and no device."""

    def setup(self, config: dict[str, Any]) -> None:
        """Hand the trial to the dispatcher."""
        self._dispatcher = find(config["sweep"])
        self._name = uuid4().hex
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self._trial: str = config["trial"]
        self._seen = 0
        settings = json.loads(config["params"])
        ray.get(self._dispatcher.submit.remote(self._trial, "trial", settings, self._name))

    def step(self) -> dict[str, Any]:
        """Wait for the trial's next scored report, or its end."""
        # Ray's dashboard lists calls by name; this actor, which takes trial after trial, has one.
        ask = self._dispatcher.next_result.options(name=f"{self._trial}.next_result")
        result = None
        while result is None:
            result = ray.get(ask.remote(self._trial, self._seen))
        self._seen += 1
        outcome = result.get("outcome")
        return {
            **result["values"],
            "hft_step": result["step"],
            "hft_last": result["last"],
            # Text, since Tune would take a mapping apart.
            "outcome": None if outcome is None else json.dumps(outcome),
            tune.result.DONE: outcome is not None,
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next trial in the same actor, which saves starting another."""
        self.cleanup()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Ask the worker group to stop, in case the trial is still under way."""
        ray.get(self._dispatcher.stop.remote(self._trial, self._name))
