"""Draws how the next trial is chosen: docs/next_trial.png.

    python benchmarks/next_trial.py TABLE docs/next_trial.png [--trials 28]

A sweep of benchmarks/curves.yaml is replayed from a table of recorded curves up to so many trials.
The picture shows what these trials gave, their front, and for the settings that the sampler then
proposes the curve that the model predicts, from the averages near the base to the trained model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial

from hft_ray.config import Config
from hft_ray.config.load import load
from hft_ray.pareto.dominance import nondominated
from hft_ray.pareto.spread import alpha_of
from hft_ray.search import Study
from hft_ray.search.bayes.domain import domain
from hft_ray.search.bayes.encoding import Encoding
from hft_ray.search.bayes.observed import Reading, ends, observed, signs, standardised
from hft_ray.search.bayes.processes import Prediction, fitted
from hft_ray.search.bayes.proposal import Proposer
from hft_ray.search.botorch_sampler import BotorchSampler
from hft_ray.search.search_space import Space
from hft_ray.search.simulate import simulate
from hft_ray.search.table import read_table

FILE = Path(__file__).parent / "curves.yaml"
NAMES = ("task/score", "forgetting/mean")


def readings(trial: FrozenTrial) -> list[Reading]:
    """Return the trained model and the averages of a trial."""
    found = ends(trial)
    for each in trial.user_attrs["result"].get("variants", ()):
        if (alpha := alpha_of(each["variant"])) is not None:
            found.append(Reading([each["values"][name] for name in NAMES], {}, alpha))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=28)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = load(FILE)
    assert config.search is not None
    search = config.search.model_copy(update={"trials": given.trials})
    config = config.model_copy(update={"search": search})
    table = read_table(given.table, config)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "search.jsonl"
        study = Study(config, path)
        study.set_base_scores(table.base, table.worst(search.objectives))
        list(simulate(study, table, config.cluster.groups, base=table.base))
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(path))
        )
        draw(
            optuna.load_study(study_name=config.name, storage=storage),
            config,
            [table.base[name] for name in NAMES],
            given.out,
        )
    return 0


def draw(study: optuna.Study, config: Config, base: list[float], out: Path) -> None:
    assert config.search is not None
    settings = domain(config, Space(config.search.space, study.trials))
    encoding = Encoding(settings)
    sampler = BotorchSampler(
        settings,
        readings=readings,
        reference=lambda: [0.0, 1.0],
        base=lambda: base,
        best=lambda: [1.0, 0.0],
    )
    params = sampler.propose(study, len(study.trials))
    seen = observed(study.trials, encoding, study.directions, readings)
    scaled = standardised(seen.values)
    proposer = Proposer(encoding)
    x = proposer.rows(seen, seen.points, seen.positions)
    scaled, x = proposer.with_base(scaled, x, signs(study.directions) * base)
    model, _ = fitted(x, scaled.values, None)
    alphas = np.linspace(0.25, 1, 40)
    point = encoding.point(params)
    assert point is not None
    own = np.hstack([encoding.features(point[None]).repeat(len(alphas), 0), alphas[:, None]])
    with torch.no_grad():
        mean, variance = (each.numpy() for each in Prediction(model)(torch.as_tensor(own)))
    deviation = np.sqrt(variance) * scaled.spread[scaled.columns]
    back = mean * scaled.spread[scaled.columns] + scaled.center[scaled.columns]
    order = [scaled.columns.index(place) for place in range(2)]
    task, kept = back[:, order].T
    errors = deviation[:, order].T
    figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    trained = seen.positions == 1
    for mask, marker, label in ((trained, "o", "trained models"), (~trained, ".", "averages")):
        axes.scatter(
            -seen.values[mask, 1],
            seen.values[mask, 0],
            marker=marker,
            s=26,
            c="0.55",
            linewidths=0,
            label=label,
        )
    front = seen.values[nondominated(-seen.values)]
    front = front[np.argsort(-front[:, 1])]
    axes.step(-front[:, 1], front[:, 0], where="post", c="0.2", lw=1.2, label="front")
    axes.plot(-kept, task, c="C0", lw=2, label="next trial, as predicted")
    axes.fill_between(-kept, task - errors[0], task + errors[0], color="C0", alpha=0.18, lw=0)
    axes.scatter(-kept[-1], task[-1], c="C0", s=40, zorder=3)
    axes.set(xlabel="forgetting (lower is better)", ylabel="task score (higher is better)")
    axes.set_ylim(-0.02, 1.05)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out, dpi=110)
    print(
        {key: value if isinstance(value, str) else round(value, 5) for key, value in params.items()}
    )


if __name__ == "__main__":
    sys.exit(main())
