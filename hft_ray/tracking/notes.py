"""Descriptions of experiment and sweep, which MLflow's pages show: how to read them."""

from __future__ import annotations

from collections.abc import Mapping

_FILTER = "``tags.`hft_ray.pareto` = 'true'``"
EXPERIMENT_NOTE = f"""\
Sweeps of hft-ray: fine-tunings, searched for what a model learns against what it forgets.

- A run without a parent is a sweep. The **+** before its name opens its trials, and that of a \
trial its variants. Its artifacts hold a report, `front/front.html`.
- The filter {_FILTER} lists the runs of the Pareto front. The page *Models* has its models, with \
the status *Ready*; a model that has left the front has none.
"""


def sweep_note(name: str, objectives: Mapping[str, str], seeds: int) -> str:
    """Return the description of a sweep.

    Args:
        name: Name of the sweep.
        objectives: Objective -> max or min.
        seeds: Seeds of each configuration.
    """
    better = {"max": "higher", "min": "lower"}
    sought = " and ".join(f"`{key}` ({better[way]} is better)" for key, way in objectives.items())
    lines = [
        f"A sweep of fine-tunings. Objectives: {sought}. `forgetting/...` is the base model's "
        "score minus the trial's: what is positive is lost.",
        "",
        "- **Report**: `front/front.html` among the artifacts, written when the sweep ends.",
        "- **Runs**: each child is a trial; each child of a trial is a variant, made from it "
        "without training.",
        f"- **Front**: the filter {_FILTER} lists its runs. Its models are on the page *Models* of "
        "the experiment, with the status *Ready*; one that has left the front has no status.",
        "- **This run**: `front/hypervolume` and `front/size` by finished trials; `base/...` are "
        "the scores of the base model, an input of every run.",
    ]
    if seeds > 1:
        lines.append(
            f"- **Seeds**: {seeds} for each configuration (`hft_ray.configuration`); "
            "`seeds/mean/...` and `seeds/deviation/...` are the same for all of its runs."
        )
    lines += [
        "",
        "```",
        f"hft-ray status {name}",
        f"hft-ray report {name}",
        f"hft-ray export {name} --select knee --out DIR",
        "```",
    ]
    return "\n".join(lines)
