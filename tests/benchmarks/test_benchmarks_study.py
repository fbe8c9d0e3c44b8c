"""The study: its data are held out, its FILEs are valid, its tables are what was recorded."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import answers
import curves
import numpy as np
import pytest
import sweeps
import tasks
import yaml
from chosen import best_of_searches, nearest_arms, written_once
from kept import keep, kept_sweep
from recorded_sweep import Sweep
from results import EXPERIMENT, LOST, TASK, TaskResults, runs_of, task_results
from tables import make as make_tables
from tables import markdown

from hft_ray.config.keys import decisive, with_settings
from hft_ray.config.load import load, validate
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.item_scores import ItemScores
from hft_ray.pareto import Point, merged
from hft_ray.pareto.uncertainty import IntervalEstimate
from hft_ray.search import Study as Search
from hft_ray.tracking import read_sweep, tracking_uri

STUDY = Path(__file__).parents[2] / "benchmarks" / "study"


def lines(path):
    return [json.loads(each) for each in path.read_text(encoding="utf-8").splitlines()]


# The data.


@pytest.fixture
def installed(tmp_path):
    """A small file system with a dictionary and a WordNet."""
    root = tmp_path / "root"
    dictd, wordnet = root / "usr/share/dictd", root / "usr/share/wordnet"
    dictd.mkdir(parents=True)
    wordnet.mkdir()
    entries = ["Source(s):", "  Home: /x/ <n>", "Paris /paʀi/ <n>", "Paris"]
    for number in range(40):
        letters = "".join("abcdefghij"[int(digit)] for digit in f"{number:02}")
        # Two French words for each English one: synonyms must stay on one side.
        for ending in ("é", "er"):
            entries += [f"{letters}{ending} /x/ <v>", f"1. to{letters}, other"]
        entries += [f"{letters} /x/ <n>", letters]  # the same word says nothing
    (dictd / "freedict-fra-eng.dict.dz").write_bytes(gzip.compress("\n".join(entries).encode()))
    for part in ("noun", "verb", "adj", "adv"):
        data, index = b"  1 licence\n", "  1 licence\n"
        for number in range(12):
            lemma = f"{part}{'abcdefghijkl'[number]}"
            tagged = int(number > 0)  # the first never occurs in a text
            index += f"{lemma} {part[0]} 1 2 @ ~ 1 {tagged} {len(data):08}  \n"
            data += f'00000000 03 n 01 {lemma} 0 000 | a meaning of {lemma}; "x"  \n'.encode()
        (wordnet / f"index.{part}").write_text(index)
        (wordnet / f"data.{part}").write_bytes(data)
    return root


@pytest.fixture
def standard_library(tmp_path, monkeypatch):
    folder = tmp_path / "stdlib"
    (folder / "test").mkdir(parents=True)
    functions = [
        f'def name{n}(self, x={n}):\n    """Return what number {n} is worth."""\n'
        for n in range(30)
    ]
    functions += ['def _own():\n    """Return what is private to it."""\n', "def silent(): pass\n"]
    (folder / "module.py").write_text("\n".join(functions))
    (folder / "test" / "module.py").write_text('def t():\n    """Return what a test says."""\n')
    (folder / "broken.py").write_text("def (:")
    monkeypatch.setattr(tasks.sysconfig, "get_path", lambda name: str(folder))


@pytest.mark.parametrize("task", tasks.TASKS)
def test_no_test_item_is_trained_on(task, installed, standard_library, tmp_path):
    made = tasks.make(task, tmp_path / "out", root=installed, train=20, test=6)
    folder = tmp_path / "out" / task
    train, test = lines(folder / "train.jsonl"), lines(folder / "test.jsonl")
    assert (
        (len(train), len(test))
        == (20, 6)
        == tuple(made[part]["records"] for part in ("train", "test"))
    )
    assert not {each["prompt"] for each in train} & {each["prompt"] for each in test}
    if task in ("words", "definitions"):
        assert not {each["answer"] for each in train} & {each["answer"] for each in test}
    # Training puts nothing between prompt and answer.
    assert all(each["answer"].startswith(" ") for each in train + test)
    # The same sources give the same files.
    before = (folder / "train.jsonl").read_bytes()
    assert tasks.make(task, tmp_path / "out", root=installed, train=20, test=6) == made
    assert (folder / "train.jsonl").read_bytes() == before
    assert json.loads((folder / "made.json").read_text()) == made


def test_what_the_sources_say_becomes_records(installed, standard_library):
    def first(task):
        files = tasks.source_files(task, tasks.TASKS[task], installed, installed)
        return next(tasks.TASKS[task].candidates(files))

    assert first("words").prompt == "French: aaé\nEnglish:"
    assert first("words").answer == "toaa"
    assert first("definitions").prompt == "Define the noun nounb:"
    assert first("definitions").answer == "a meaning of nounb"
    assert first("code").prompt == '"""Return what number 0 is worth."""\ndef'
    assert first("code").answer == "name0(self, x=0):"


def test_arithmetic_is_right_and_of_all_kinds():
    found = list(tasks.arithmetic([]))
    kinds = Counter()
    for each in found:
        asked = each.prompt.removesuffix(" =").replace("mod", "%")
        assert eval(asked) == int(each.answer)
        kinds[next(iter(each.keys)).split()[0]] += 1
    assert set(kinds.values()) == {1000}


def test_a_leak_is_found():
    def one(prompt, key):
        return tasks.Candidate(prompt, "x", frozenset([key]))

    tasks.check_held_out([one("a", "1")], [one("b", "2")])
    for leaked in (one("b", "1"), one("a", "2")):
        with pytest.raises(ValueError, match="1 test records are trained on"):
            tasks.check_held_out([one("a", "1")], [leaked])


def test_too_small_a_source_is_refused(installed, tmp_path):
    with pytest.raises(tasks.MissingSourceError, match="the source has too little"):
        tasks.make("definitions", tmp_path, root=installed, train=400, test=6)


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))  # without apt-get
    monkeypatch.setattr(tasks, "ROOT", tmp_path)
    with pytest.raises(tasks.MissingSourceError, match="apt-get install wordnet-base"):
        tasks.make("definitions", tmp_path, root=tmp_path)


# The FILEs.


def contents(tmp_path):
    return {task: sweeps.task_content(task, tmp_path) for task in tasks.TASKS}


@pytest.mark.parametrize("task", tasks.TASKS)
def test_every_file_loads(task):
    config = load(STUDY / f"{task}.yaml")
    assert config.search.trials == 36
    assert list(config.search.objectives) == [TASK, LOST]


def test_the_files_differ_in_names_and_data_alone(tmp_path):
    found = []
    for task, content in contents(tmp_path).items():
        text = yaml.safe_dump({**content, "evaluation": {**content["evaluation"], "task": None}})
        assert content["evaluation"]["task"][0]["data"] == str(tmp_path / task / "test.jsonl")
        found.append(text.replace(task, "TASK"))
    assert len(set(found)) == 1


SETTINGS = {"selection.ratio": 0.3, "training.learning_rate": 5e-4, "selection.reselect": 24}


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("task", tasks.TASKS)
def test_every_sweep_is_valid(task, short, tmp_path):
    content = sweeps.task_content(task, tmp_path, short=short)
    made = [sweeps.arms(content), sweeps.reseeded(content, "seed2", ["full", "hft"])]
    if not short:
        made += [sweeps.more(content)]
        made += [sweeps.searched(content, part) for part in sweeps.SPACES]
        made += [sweeps.again(content, {"search-hft": SETTINGS}), sweeps.draws(content)]
    configs = [validate(each, each["name"]) for each in made]
    assert len({config.name for config in configs}) == len(made)
    assert configs[1].training.seed == configs[1].selection.seed == 2
    # Nothing was changed on the way.
    assert content == sweeps.task_content(task, tmp_path, short=short)


def trials_of(content, folder):
    """Return the settings of all trials that a sweep would make."""
    search = Search(validate(content, "FILE"), folder / f"{content['name']}.jsonl")
    found = []
    while (trial := search.next_trial()) is not None:
        found.append(trial.params)
        values = {TASK: 1.0 + len(found) % 3, LOST: 0.1}
        search.tell(trial.trial, {"state": "complete", "step": 1, "values": values})
    search.close()
    return found


def test_each_arm_has_each_learning_rate_once_and_seeds_repeat_them(tmp_path):
    content = sweeps.task_content("code", tmp_path)
    parts = [sweeps.arms(content), sweeps.more(content)]
    parts += [sweeps.reseeded(content, "seed1", ["full", "hft", "lora"])]
    found = [trials_of(part, tmp_path) for part in parts]
    rates = [Counter((p["arm"], p["training.learning_rate"]) for p in part) for part in found]
    assert [len(each) for each in rates] == [27, 9, 9]
    assert all(set(each.values()) == {1} for each in rates)
    assert not rates[0].keys() & rates[1].keys()
    assert rates[2].keys() <= rates[0].keys()


def test_draws_and_repetitions_have_each_seed_once(tmp_path):
    content = sweeps.task_content("code", tmp_path)
    found = trials_of(sweeps.draws(content), tmp_path)
    seeds = Counter(
        (each["arm"], each.get("selection.seed", 0), each["training.seed"]) for each in found
    )
    expected = [("draw", n, 0) for n in range(6)] + [("order", 0, n) for n in range(6)]
    assert seeds == Counter(expected)
    found = trials_of(sweeps.again(content, {"search-hft": SETTINGS}), tmp_path)
    assert {(each["selection.seed"], each["training.seed"]) for each in found} == {(1, 1), (2, 2)}


def test_what_is_trained_again_is_what_the_search_trained(tmp_path):
    content = sweeps.task_content("code", tmp_path)
    search = validate(sweeps.searched(content, "search-hft"), "FILE")
    found = settings_of(with_settings(search, SETTINGS))
    repeated = validate(sweeps.again(content, {"search-hft": SETTINGS}), "FILE")
    arms = by_arm(repeated)
    assert list(arms) == ["again-search-hft-1", "again-search-hft-2"]
    assert all(settings_of(config) == found for config in arms.values())


def settings_of(config):
    return {
        key: x for key, x in decisive(config).items() if key != "arm" and not key.endswith(".seed")
    }


# Reading curves.


def test_a_curve_is_read_where_it_crosses_the_level_at_the_least_loss():
    task = np.array([[8.0, 6.0, 5.0, 7.0], [8.0, 7.0, 6.0, 5.5]])
    lost = np.array([[0.0, 0.1, 0.3, 0.9], [0.0, 0.2, 0.4, 0.8]])
    level = np.array([6.5, 6.5])
    assert curves.crossing(task, lost, level) == pytest.approx([0.075, 0.3])
    beyond = np.array([4.0, 5.5])
    assert curves.crossing(task, lost, beyond) == pytest.approx([np.nan, 0.8], nan_ok=True)
    ends = curves.crossing(task[:, -1:], lost[:, -1:], level)
    assert ends == pytest.approx([np.nan, 0.8], nan_ok=True)
    assert curves.lowest([np.array([np.nan, 2.0]), np.array([1.0, 1.0])]) == pytest.approx([1, 1])


ITEMS = {"answers": 60, "english": 12}


class ItemAnswers:
    """Item scores that are known by their influence: metric -> (K,)."""

    def __init__(self, influence):
        self._influence = influence
        self.items = tuple(range(sum(ITEMS.values())))

    def influence(self, metric):
        return self._influence.get(metric)


def synthetic(task="t", losses=None, own=0.0, arms=("full", "hft", "alike")):
    """Return results in which hft forgets half as much as full, and ``alike`` just as much.

    Args:
        task: Name of the task.
        losses: Arm -> what its trained models forget.
        own: Standard error that is a point's own.
        arms: Which arms there are.
    """
    rng = np.random.default_rng(5)
    common = rng.normal(0, 0.02, sum(ITEMS.values()))
    losses = losses or {"full": 0.4, "hft": 0.2, "alike": 0.4}

    def point(arm, alpha):
        values = {TASK: 8 - 3 * (1.4 * alpha - 0.4 * alpha**2), LOST: losses[arm] * alpha**2}
        answers = ItemAnswers({TASK: common * (1 + alpha), LOST: common * alpha})
        size = float(np.linalg.norm(common))
        errors = {TASK: np.hypot(size * (1 + alpha), own), LOST: np.hypot(size * alpha, own)}
        variant = None if alpha == 1 else f"alpha-{alpha}"
        params = {"training.learning_rate": 1e-3, "arm": arm}
        return Point(
            *(f"{arm}", variant, None, "complete", 9, params, values, errors),
            configuration=arm,
            arm=arm,
            answers=answers,
        )

    results = TaskResults(task, {})
    found = [point(arm, alpha) for arm in arms for alpha in (1, 0.25, 0.5, 0.75)]
    base = Point("base", None, None, "complete", 0, values={TASK: 8.0, LOST: 0.0})
    vars(results).update(points=found, base=base)
    return results


def test_what_arms_share_cancels_in_their_difference():
    study = curves.Study([synthetic()], LOST)
    level = study.level("t", 0.9)
    full, alike = (study.at("t", arm, level) for arm in ("full", "alike"))
    assert full.estimate.error > 0.01
    assert (alike - full).estimate == IntervalEstimate(0.0, 0.0)
    assert study.arms("t") == ["full", "hft", "alike"]


def test_what_is_clear_is_said_and_what_is_not_is_not():
    results = [synthetic(task, own=0.01) for task in "tu"]
    rows = answers.beyond_averaging(curves.Study(results, LOST))
    said = {row["arm"]: row["says"] for row in rows if row["task"] == "t"}
    # No model was trained twice, so that the error knows items alone.
    assert said == {"hft": "forgets less (of items alone)", "alike": "not decided"}
    pooled = {row["arm"]: row for row in rows if row["task"] == "2 tasks"}
    assert pooled["hft"]["Holm"] < 0.01 < pooled["alike"]["Holm"]
    one = answers.beyond_averaging(curves.Study(results[:1], LOST))
    assert {row["task"] for row in one} == {"t"}


def test_means_over_tasks_are_shares_of_what_may_not_be_nothing():
    nothing = synthetic("u", losses={"full": 0.0, "hft": 0.0, "alike": 0.0})
    study = curves.Study([synthetic(), nothing], LOST)
    assert {row["task"] for row in answers.beyond_averaging(study)} == {"t", "u"}
    rows = answers.beyond_averaging(study, relative=False)
    assert {row["task"] for row in rows} == {"t", "u", "2 tasks"}


def test_levels_are_exact_at_both_ends():
    study = curves.Study([synthetic(arms=("full",))], LOST)
    best = study.best_full("t", averages=True)
    assert (study.level("t", 1.0) == study.score("t", best)).all()
    assert (study.level("t", 0.0) == study.score("t", -1)).all()
    assert study.at("t", "full", study.level("t", 1.0)).reached == 1.0


def seeded(spread, seeds=3):
    """Return results of two arms at two rates, ``l2`` with one seed; seeds spread with the rate."""
    rng, results = np.random.default_rng(2), TaskResults("t", {})

    def one(arm, rate, lost, seed):
        values = {TASK: 5.0 + 0.1 * (arm == "l2"), LOST: lost}
        params = {"training.learning_rate": rate, "arm": arm}
        name = f"{arm}-{rate}"
        known = Point(f"{name}-{seed}", None, None, "complete", 9, params, values, {})
        return dataclasses.replace(known, configuration=name, arm=arm)

    found = []
    for arm in ("full", "hft", "l2"):
        for rate, size in spread.items():
            losses = 1 + size * rng.standard_normal(1 if arm == "l2" else seeds)
            found += [one(arm, rate, float(x), seed) for seed, x in enumerate(losses)]
    base = Point("base", None, None, "complete", 0, values={TASK: 8.0, LOST: 0.0})
    vars(results).update(points=merged(found), base=base)
    return results


def test_what_seeds_differ_by_is_known_for_each_rate():
    study = curves.Study([seeded({1e-4: 0.01, 1e-3: 1.0})], LOST)
    errors = {
        (point.arm, point.params["training.learning_rate"]): study.end("t", row).estimate.error
        for row, point in enumerate(study.points("t")[:-1])
    }
    assert errors["full", 1e-4] < 0.02 < 0.2 < errors["full", 1e-3]
    # One seed alone errs by as much as a single one of the others.
    assert errors["l2", 1e-3] == pytest.approx(3**0.5 * errors["full", 1e-3], rel=0.1)
    assert study.knows_seeds("t")


def test_arms_are_compared_on_as_many_seeds():
    study = curves.Study([seeded({1e-4: 0.1, 1e-3: 0.1})], LOST)
    assert study.fair("hft", "full") is study
    first = study.fair("l2", "full")
    assert first is study.first_seed is not study
    row = study.best_full("t")
    assert first.end("t", row).value == study.points("t")[row].seeds[0].values[LOST]
    seeds = {row["arm"]: row["seeds"] for row in answers.beyond_averaging(study)}
    assert seeds == {"hft": 3, "l2": 1}


def test_averages_by_depth_are_compared_at_their_own_scores():
    results = synthetic(arms=("full",))
    alike = next(p for p in results.points if p.variant == "alpha-0.5")
    depth = dataclasses.replace(alike, variant="depth-0.75,-0.5", arm="depth")
    results.points.append(depth)
    (row,) = answers.by_depth(curves.Study([results], LOST))
    assert row["minus full's averages"].value == pytest.approx(0.0, abs=1e-12)
    assert row["share"] == "0.75,-0.5"
    assert curves.Study([results], LOST).arms("t") == ["full"]


def repeated(results, rng, own):
    """Add to the values what another sample of items, and each point's own error, would."""
    items, half = rng.normal(size=sum(ITEMS.values())), own * 0.5**0.5
    unseen = {name: rng.normal(0, half) for name in (TASK, LOST)}
    for point in results.points:
        for name in (TASK, LOST):
            effect = float(point.answers.influence(name) @ items)
            point.values[name] += effect + unseen[name] + rng.normal(0, half)
    return results


def apart_at(results, share, **given):
    study = curves.Study([results], LOST, **given)
    level = study.level("t", share)
    return study.at("t", "hft", level) - study.at("t", "full", level)


def test_differences_have_the_error_that_repeated_studies_have():
    """The 95 % interval of a difference holds the truth about as often as it says."""
    rng, held, count = np.random.default_rng(1), 0, 100
    true = apart_at(synthetic(arms=("full", "hft")), 0.8, draws=2).value
    for number in range(count):
        results = repeated(synthetic(own=0.02, arms=("full", "hft")), rng, 0.02)
        low, high = apart_at(results, 0.8, draws=200, seed=number).estimate.interval()
        held += low <= true <= high
    assert held >= 90


def test_averaging_alone_saves_what_the_curve_says():
    (row,) = answers.by_averaging(curves.Study([synthetic(arms=("full",))], LOST))
    # The curve falls all the way: at the end's own score there is the end alone.
    assert row["share saved"].value == pytest.approx(0.0, abs=1e-9)
    assert row["forgotten"].value == pytest.approx(0.4)


def test_the_rules_choose_what_forgets_least(tmp_path):
    losses = {"full": 0.4, "hft": 0.5, "kl": 0.3, "l2": 0.1, "lora": 0.2, "search-hft": 0.1}
    arms = synthetic(losses=losses, arms=tuple(losses)[:-1])
    assert nearest_arms(arms) == ["full", "hft", "l2", "lora"]
    results = synthetic(losses=losses, arms=tuple(losses))
    best = best_of_searches(results, {"search-hft": ["training.learning_rate"], "search-all": []})
    assert best == {"search-hft": {"training.learning_rate": 1e-3}}
    assert written_once(tmp_path / "a" / "c.json", lambda: ["l2"]) == ["l2"]
    assert written_once(tmp_path / "a" / "c.json", lambda: ["other"]) == ["l2"]


def test_tables_show_errors_and_gaps():
    rows = [{"arm": "a", "x": IntervalEstimate(0.5, 0.1)}, {"arm": "b", "x": None, "y": 1}]
    assert markdown(rows).splitlines() == [
        "| arm | x | y |",
        "| --- | --- | --- |",
        "| a | 0.50 [0.30, 0.70] |  |",
        "| b | not reached | 1 |",
    ]


# Tables from MLflow.

WORSE = {"full": 0.4, "hft": 0.2, "lora": 0.6}


def item_scores(rng_seed, task, lost):
    """Return what a model scored on single items: the same items for all."""
    rng = np.random.default_rng(7)
    items = {name: rng.normal(0, 0.5, count) for name, count in ITEMS.items()}
    own = np.random.default_rng(rng_seed)
    scores = {
        "answers": task + items["answers"] - items["answers"].mean(),
        "english": 3 + lost + items["english"] - items["english"].mean(),
    }
    scores = {name: x + own.normal(0, 0.01, len(x)) for name, x in scores.items()}
    gradient = np.array([[1, 0, 0, 0], [0, 1, 0, -1]], dtype=np.float32)
    identities = {name: f"{name} of code" for name in ITEMS}
    return ItemScores(scores, (TASK, LOST), gradient, identities=identities), {
        TASK: float(scores["answers"].mean()),
        LOST: lost,
        f"stderr/{TASK}": float(scores["answers"].std() / len(scores["answers"]) ** 0.5),
        f"stderr/{LOST}": 0.01,
        "forecast/kl": lost + 0.1,
    }


def record(root, content, seed):
    """Record a sweep of the study as if it had been run."""
    search = content.pop("search")
    sections = {**content, "model": "m"}
    base, values = item_scores(0, 8.0, 0.0)
    worst = {TASK: 10.8, LOST: 7.0}
    sweep = Sweep(root, file=sections, base=values, worst=worst, **search)
    folder = root / "sweeps" / content["name"] / "scores"
    base.write(folder / "base.safetensors")
    planned = search["trials"]
    for number in range(planned):
        trial = sweep.start()
        params = sweep.study.trials()[-1].params
        arm, rate = params["arm"], params["training.learning_rate"]
        strength = {3.0e-4: 1.0, 3.0e-3: 1.0}.get(rate, 0.9)

        def scored(alpha, arm=arm, strength=strength, number=number):
            task = 8 - 3 * strength * (1.4 * alpha - 0.4 * alpha**2)
            return item_scores(100 * seed + number, task, WORSE[arm] * strength * alpha**2)

        final, end = scored(1.0)
        final.write(folder / trial / "final.safetensors")
        variants = []
        for alpha in (0.25, 0.5, 0.75):
            model, found = scored(alpha)
            model.write(folder / trial / f"alpha-{alpha}.safetensors")
            variants.append({"variant": f"alpha-{alpha}", "values": found, "step": 96})
        sweep.end(trial, values=end, step=96, variants=variants)
    sweep.recorder.write_report(sweep.study.trials())
    sweep.close("complete")


@pytest.fixture(scope="module")
def recorded(mlflow_store, tmp_path_factory):
    """The storage root of a small study that was recorded: two parts, the second of two arms."""
    root = tmp_path_factory.mktemp("study")
    shutil.copy(mlflow_store, root)
    content = sweeps.task_content("code", root)
    search = content["search"]
    search["arms"] = {name: search["arms"][name] for name in WORSE}
    search["trials"] = 9
    search["variants"]["depth"] = 0
    record(root, sweeps.arms(content), 0)
    record(root, sweeps.reseeded(content, "seed1", ["full", "hft"]), 1)
    return root, content


def test_tables_are_made_from_mlflow_alone(recorded, tmp_path):
    root, content = recorded
    results = task_results(tracking_uri(None, root), "code", content)
    assert results.arms == ["full", "hft", "lora"]
    # Seeds of a configuration are one point; other seeds of other arms are not.
    counts = Counter((p.arm, len(p.seeds)) for p in results.points)
    assert counts == {("full", 2): 12, ("hft", 2): 12, ("lora", 1): 12}
    runs = {row["sweep"]: row for row in runs_of([results])}
    assert [runs[part]["complete"] for part in ("arms", "seed1")] == [9, 6]
    assert runs["search-all"]["planned"] == "not complete"
    assert "draws" not in runs  # of other tasks
    study = curves.Study([results], LOST, draws=300)
    level = study.level("code", 0.9)
    apart = (study.at("code", "hft", level) - study.at("code", "full", level)).estimate
    assert apart.interval()[1] < 0
    make_tables([results], tmp_path)
    written = json.loads((tmp_path / "beyond.json").read_text())["rows"]
    said = {row["arm"]: row["says"] for row in written if row["task"] == "code"}
    assert said == {"hft": "forgets less", "lora": "forgets more"}
    seeds = {row["arm"]: row["seeds"] for row in written if row["task"] == "code"}
    assert seeds == {"hft": 2, "lora": 1}
    forecast = json.loads((tmp_path / "forecast.json").read_text())["rows"]
    assert forecast[0]["models"] == 9
    names = {path.name for path in tmp_path.iterdir()}
    assert {"tables.md", "code.png", "averaging.md", "full_score.md", "runs.md"} <= names


def test_kept_sweeps_give_the_same_results_without_mlflow(recorded, mlflow_store, tmp_path):
    root, content = recorded
    uri, kept = tracking_uri(None, root), tmp_path / "kept"
    for part in ("arms", "seed1"):
        keep(read_sweep(uri, EXPERIMENT, sweeps.sweep_name(content, part)), kept, root)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert len(before) == 4
    keep(read_sweep(uri, EXPERIMENT, "study-code-arms"), kept, root)
    assert before == {path.name: path.read_bytes() for path in kept.iterdir()}
    assert all(str(root).encode() not in gzip.decompress(before[n]) for n in before if "json" in n)
    shutil.copy(mlflow_store, tmp_path)
    found = task_results(tracking_uri(None, tmp_path), "code", content, kept)
    given = task_results(uri, "code", content)
    assert runs_of([found]) == runs_of([given])
    studies = [curves.Study([each], LOST, draws=50) for each in (found, given)]
    rows = [answers.beyond_averaging(study) for study in studies]
    assert rows[0] == rows[1]
    assert [(p.label, p.step, p.values) for p in found.points] == [
        (p.label, p.step, p.values) for p in given.points
    ]
    assert kept_sweep(kept, "study-code-more") is None


def test_without_results_there_are_no_tables(tmp_path, mlflow_store):
    shutil.copy(mlflow_store, tmp_path)
    content = sweeps.task_content("code", tmp_path)
    assert task_results(tracking_uri(None, tmp_path), "code", content) is None


# The whole, short.


@pytest.mark.cluster
def test_the_short_study_runs_and_goes_on(tmp_path):
    def command(name, *arguments):
        file = [sys.executable, "-W", "ignore", str(STUDY / name), str(tmp_path), "--short"]
        done = subprocess.run(
            [*file, *arguments], capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    kept = ["--kept", str(tmp_path / "kept")]
    assert "study-arithmetic-short-arms" in command("run.py", "--parts", "arms")
    assert "study-arithmetic-short-arms" not in command("run.py", *kept)
    chosen = tmp_path / "kept" / "chosen" / "study-arithmetic-short-arms.json"
    assert json.loads(chosen.read_text()) == ["full", "hft"]
    # Another machine, which has only what was kept.
    shutil.rmtree(tmp_path / "storage")
    (tmp_path / "commands.jsonl").unlink()
    assert "study: " not in command("run.py", *kept)
    command("tables.py", *kept)
    runs = json.loads((tmp_path / "tables" / "runs.json").read_text())["rows"]
    complete = [(row["sweep"], row["complete"]) for row in runs if "complete" in row]
    assert complete == [("arms", 2), ("seed1", 2)]
    assert (tmp_path / "tables" / "arithmetic.png").stat().st_size > 0
