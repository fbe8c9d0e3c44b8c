"""Who may import whom: read from the source of every module, functions and TYPE_CHECKING included.

A package may import those below it. This is what keeps selection, data, evaluation and training
usable without Ray and MLflow.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "hft_ray"
PACKAGE = ROOT.name

BELOW = {
    "config": set(),
    "selection": {"config"},
    "data": {"config"},
    "evaluation": {"config", "data"},
    "mirror": set(),
    "training": {"config", "selection", "data", "evaluation", "mirror", "pareto"},
    "weights": {"config", "selection", "data", "evaluation", "training"},
    "integrations": {"config", "selection"},
    "pareto": {"config"},
    "analysis": {"pareto"},
    "report": {"pareto", "analysis"},
    "search": {"config", "pareto"},
    "tracking": {"config"},
    "demo": {"config", "data", "evaluation", "training"},
    "suites": set(),
}
"""Package -> the packages of ours that it may import; those not here may import every other."""
SHARED = {"ranks", "strict_json", "disk_errors", "background"}
"""Modules below every package."""

WITH_RAY = ("orchestration/", "search/searcher.py", "search/scheduler.py", "cli/tune_sweep.py")
HEAVY = {"ray", "mlflow", "optuna", "torch", "transformers", "deepspeed"}
DRAWING = {"matplotlib", "plotly"}
OUTSIDE = {
    "config": HEAVY,
    "selection": HEAVY - {"torch"},
    "data": {"ray", "mlflow", "optuna", "deepspeed"},
    "evaluation": {"ray", "mlflow", "optuna", "deepspeed"},
    "training": {"ray", "mlflow", "optuna"},
    "weights": {"ray", "mlflow", "optuna"},
    "integrations": {"ray", "mlflow", "optuna", "deepspeed"},
    "pareto": HEAVY | DRAWING,
    "analysis": HEAVY | DRAWING,
    "report": HEAVY,
    "search": {"mlflow", "torch", "transformers", "deepspeed"},
    "tracking": {"ray", "optuna", "transformers", "deepspeed"},
}
"""Package -> libraries that it must do without."""

MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
LONGEST = 600


def imported(module: str, *, functions: bool = True) -> set[str]:
    """Return the dotted names that a module imports, ``from a import b`` as ``a.b``.

    Args:
        module: Its path within the package.
        functions: Whether to look into functions too.
    """
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree) if functions else outside_functions(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            # import_module("x") and find_spec("x"), which no import statement shows.
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found


def outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every node that is not within a function."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from outside_functions(node)


def package_of(module: str) -> str:
    return module.split("/")[0].removesuffix(".py")


def ours(module: str) -> set[str]:
    """Return the packages of ours that a module imports, its own left out."""
    names = {name.split(".")[1] for name in imported(module) if name.startswith(f"{PACKAGE}.")}
    return names - {package_of(module), "__version__"}


def libraries(module: str) -> set[str]:
    return {name.split(".")[0] for name in imported(module)}


def modules_of(package: str) -> list[str]:
    found = [module for module in MODULES if package_of(module) == package]
    assert found, f"there is no package {package}"
    return found


@pytest.mark.parametrize("package", BELOW)
def test_a_package_imports_only_what_lies_below_it(package):
    for module in modules_of(package):
        above = ours(module) - BELOW[package] - SHARED
        assert not above, f"{module} imports {sorted(above)}"


@pytest.mark.parametrize("package", OUTSIDE)
def test_a_package_does_without_libraries_that_are_not_its_concern(package):
    for module in modules_of(package):
        found = libraries(module) & OUTSIDE[package]
        assert not found, f"{module} imports {sorted(found)}"


def test_config_imports_nothing_of_ours():
    for module in modules_of("config"):
        assert not ours(module) - {"strict_json"}, module


def test_pareto_knows_of_file_its_constraints_and_preference_alone():
    for module in modules_of("pareto"):
        names = {name for name in imported(module) if name.startswith(f"{PACKAGE}.config")}
        assert all(name.startswith(f"{PACKAGE}.config.constraints.") for name in names), module


def test_the_report_alone_draws():
    users = {package_of(module) for module in MODULES if libraries(module) & DRAWING}
    assert users == {"report"}


def test_nothing_but_the_command_line_imports_the_command_line():
    for module in MODULES:
        if package_of(module) not in ("cli", "__main__"):
            assert "cli" not in ours(module), module


def test_tracking_alone_knows_mlflow():
    users = {package_of(module) for module in MODULES if "mlflow" in libraries(module)}
    assert users == {"tracking"}


def test_ray_is_known_where_trials_are_run_and_nowhere_else():
    users = [module for module in MODULES if "ray" in libraries(module)]
    assert users
    assert [module for module in users if not module.startswith(WITH_RAY)] == []
    for module, part in (("searcher", "search"), ("scheduler", "schedulers")):
        names = [each for each in imported(f"search/{module}.py") if each.split(".")[0] == "ray"]
        assert names
        assert all(name.startswith(f"ray.tune.{part}") for name in names)


def test_what_controls_a_sweep_starts_without_the_libraries_of_training():
    """Each of Tune's actors, the dispatcher and Train's controllers is a process of its own."""
    code = (
        "import sys, hft_ray.orchestration.trial; print('torch' in sys.modules);"
        "import hft_ray.orchestration.groups; print('deepspeed' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


def test_optuna_is_known_to_the_search_alone():
    users = {package_of(module) for module in MODULES if "optuna" in libraries(module)}
    assert users == {"search"}


def test_the_rules_see_imports_that_hide():
    """The parser finds imports in functions and under TYPE_CHECKING, or the rules say nothing."""
    assert "datasets" in libraries("data/records.py")
    assert "transformers" in libraries("data/cache.py")
    assert ours("evaluation/suite.py") == {"config", "ranks"}


def test_every_package_of_the_lower_layers_has_its_rule():
    packages = {package_of(module) for module in MODULES if "/" in module}
    assert packages - BELOW.keys() == {"orchestration", "cli"}


def imports_of_modules() -> dict[str, set[str]]:
    """Return module -> the modules of ours that it imports before anything in it is called."""
    dotted = {name_of(module): module for module in MODULES}
    found = {}
    for name, module in dotted.items():
        used = imported(module, functions=False)
        # ``from a import b`` imports the module a.b, or else a itself.
        used |= {each.rpartition(".")[0] for each in used - dotted.keys()}
        found[name] = (used & dotted.keys()) - {name}
    return found


def name_of(module: str) -> str:
    """Return the dotted name of a module."""
    parts = module.removesuffix(".py").removesuffix("/__init__").split("/")
    return ".".join([PACKAGE, *(part for part in parts if part != "__init__")])


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Return the modules that import one another, a set for each circle."""
    reached: dict[str, set[str]] = {}
    for start in imports:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = imports[waiting.pop()] - seen
            seen |= new
            waiting += new
        reached[start] = seen
    found = ({other for other in seen if name in reached[other]} for name, seen in reached.items())
    return [set(each) for each in {frozenset(each) for each in found if each}]


CIRCLES: list[set[str]] = [{"hft_ray.data.chat", "hft_ray.data.preference"}]
"""Circles that are still there, each a line to be removed."""


def test_no_modules_import_one_another():
    found = circles(imports_of_modules())
    assert sorted(map(sorted, found)) == sorted(map(sorted, CIRCLES))


def test_a_circle_is_found():
    imports = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert circles(imports) == [{"a", "b", "c"}]


def twice(names: list[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


STEMS: set[str] = {
    "adapter",
    "checkpoint",
    "checks",
    "export",
    "location",
    "mirror",
    "models",
    "naming",
    "probe",
    "stages",
    "stopping",
    "values",
    "variants",
}
"""File stems that still stand twice, each to be removed."""


def test_no_file_stem_stands_twice():
    stems = [Path(module).stem for module in MODULES]
    assert twice(stems) - {"__init__"} == STEMS


CLASSES: set[str] = {
    "Budget",
    "Candidate",
    "Event",
    "FrozenChangedError",
    "Journal",
    "Manifest",
    "Progress",
    "Reader",
    "Rounds",
    "Score",
}
"""Class names that still stand twice, each to be removed."""


def test_no_class_name_stands_twice():
    trees = [ast.parse((ROOT / module).read_text(encoding="utf-8")) for module in MODULES]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    assert twice([node.name for node in nodes if isinstance(node, ast.ClassDef)]) == CLASSES


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_longer_than_a_reader_takes(module):
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) <= LONGEST
