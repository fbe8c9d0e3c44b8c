"""Models of a sweep in MLflow (``LoggedModel``): the base model and the points of the front.

A model is found by its run before one is created, so that writing it twice changes nothing. A
model that leaves the front stays, with the tag ``hft_ray.pareto`` at ``false`` and no status:
MLflow's page of models shows status but not tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hft_ray.tracking import names
from hft_ray.tracking.events import FrontMembers, FrontModel

BASE, TUNED = "base", "fine-tuned"
"""Types of models."""
_NONE = {"ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED"}
"""What a server answers that has no models: those before MLflow 3."""


class Models:
    """The models of one experiment.

    Args:
        client: An ``MlflowClient``.
        experiment_id: The experiment.
        warn: Called with a sentence when the server has no models.
    """

    def __init__(self, client: Any, experiment_id: str, warn: Callable[[str], None]) -> None:
        self._client, self._experiment_id, self._warn = client, experiment_id, warn
        self._missing = False

    def write(self, run: Any, event: FrontModel) -> None:
        """Write the model of a run, with those of its metrics that the event names."""
        found = self._search(f"source_run_id = '{run.info.run_id}'")
        if found is None:
            return
        model = self._one_of(found) or self._create(run.info.run_id, event)
        if str(model.status) != "READY":
            self._client.finalize_logged_model(model.model_id, "READY")
        self._link_metrics(run, model, event)
        self._link_run(run, model, event)
        self._set_tags(model, event.tags)

    def mark(self, event: FrontMembers) -> None:
        """Mark the sweep's models that are not among the members as no longer on the front."""
        wanted = f"tags.`{names.SWEEP}` = '{event.sweep}' AND tags.`{names.PARETO}` = 'true'"
        for model in self._search(wanted) or ():
            key = names.run_key(model.tags[names.TRIAL], model.tags.get(names.VARIANT))
            if key not in event.members:
                self._clear_status(model)
                # Last: models are found by it.
                self._set_tags(model, {names.PARETO: "false"})

    def _clear_status(self, model: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.finalize_logged_model(model.model_id, "UNSPECIFIED")
        except MlflowException as error:
            if error.error_code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise
            # A server may take READY and FAILED alone; the tag is set in any case.

    def _search(self, wanted: str) -> list[Any] | None:
        """Return models, oldest first; None if the server has no models at all."""
        from mlflow.exceptions import MlflowException

        if self._missing:
            return None
        try:
            return list(self._pages(wanted))
        except MlflowException as error:
            if error.error_code not in _NONE:
                raise
        self._missing = True
        self._warn("the tracking server has no models, MLflow 3 has: the front is in runs only")
        return None

    def _pages(self, wanted: str) -> Iterator[Any]:
        token: str | None = None
        while True:
            page = self._client.search_logged_models(
                [self._experiment_id],
                filter_string=wanted,
                order_by=[{"field_name": "creation_timestamp", "ascending": True}],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _one_of(self, found: list[Any]) -> Any | None:
        """Return the first; a lost answer may have led to two, of which the later is deleted."""
        for twin in found[1:]:
            self._client.delete_logged_model(twin.model_id)
        return found[0] if found else None

    def _create(self, run_id: str, event: FrontModel) -> Any:
        return self._client.create_logged_model(
            self._experiment_id,
            name=names.valid_model(event.name),
            source_run_id=run_id,
            tags=event.tags | {names.SWEEP: event.sweep, names.EXTERNAL: "true"},
            params=event.params,
            model_type=BASE if event.trial is None else TUNED,
        )

    def _set_tags(self, model: Any, tags: dict[str, str]) -> None:
        new = {key: text for key, text in tags.items() if model.tags.get(key) != text}
        if new:
            self._client.set_logged_model_tags(model.model_id, new)

    def _link_metrics(self, run: Any, model: Any, event: FrontModel) -> None:
        """Log the run's metrics again as the model's: at the same time they are the same rows."""
        from mlflow.entities import Metric

        there = {(metric.key, metric.step) for metric in model.metrics or ()}
        wanted = {names.valid_key(key): data for key, data in event.metrics.items()}
        fresh = [
            Metric(each.key, each.value, each.timestamp, each.step, model.model_id, *data)
            for each in run.data.to_proto().metrics
            if (data := wanted.get(each.key)) is not None and (each.key, each.step) not in there
        ]
        for start in range(0, len(fresh), names.METRICS_PER_BATCH):
            batch = fresh[start : start + names.METRICS_PER_BATCH]
            self._client.log_batch(run.info.run_id, metrics=batch)

    def _link_run(self, run: Any, model: Any, event: FrontModel) -> None:
        """Make the model an output of its run, the base model an input."""
        from mlflow.entities import LoggedModelInput, LoggedModelOutput

        if event.trial is None:
            self._client.log_inputs(run.info.run_id, models=[LoggedModelInput(model.model_id)])
            return
        outputs = () if run.outputs is None else run.outputs.model_outputs
        if model.model_id not in [each.model_id for each in outputs]:
            output = LoggedModelOutput(model.model_id, event.step)
            self._client.log_outputs(run.info.run_id, [output])
