"""A trial of Ray Tune that holds no model: it submits its config and relays the results."""

from __future__ import annotations

import json
from typing import Any

import ray
from ray import tune

from hft_ray.orchestration.dispatcher import find


class ThinTrial(tune.Trainable):
    """A trial whose work is done by a worker group; it needs no device.

    It never stops the workers: a stop goes from the scheduler to the dispatcher, and the trial ends
    when the workers say so.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Submit the trial to the dispatcher."""
        self._dispatcher = find(config["sweep"])
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self._trial: str = config["trial"]
        self._seen = 0
        ray.get(self._dispatcher.submit.remote(self._trial, "trial", json.loads(config["params"])))

    def step(self) -> dict[str, Any]:
        """Wait for the trial's next scored report, or its end."""
        # Ray's dashboard lists calls by name; the actor, which takes trial after trial, has one.
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
            # Text, since Tune would flatten a mapping.
            "outcome": None if outcome is None else json.dumps(outcome),
            tune.result.DONE: outcome is not None,
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over the next trial in the same actor, which saves starting another."""
        self._begin(new_config)
        return True
