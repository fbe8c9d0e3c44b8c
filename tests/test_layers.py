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
    "compat": set(),
    "config": set(),
    "selection": {"config"},
    "data": {"config"},
    "evaluation": {"config", "data"},
    "artifacts": set(),
    "weight_space": set(),
    "out_folder": {"config"},
    "storage_root": {"config"},
    "device_cost": {"config"},
    "training": {
        *("config", "selection", "data", "evaluation", "pareto"),
        *("artifacts", "weight_space", "device_cost"),
    },
    "weights": {
        *("config", "selection", "data", "evaluation", "training", "pareto"),
        *("artifacts", "weight_space", "out_folder"),
    },
    "integrations": {"config", "selection"},
    "pareto": {"config"},
    "analysis": {"pareto"},
    "report": {"pareto", "analysis"},
    "search": {"config", "pareto", "device_cost"},
    "tracking": {"config"},
    "scaffold": {"config", "data", "training"},
    "demo": {"config", "data", "evaluation", "training"},
    "suites": set(),
}
"""Package -> the packages of ours that it may import; those not here may import every other."""
SHARED = {"ranks", "strict_json", "disk_errors", "background", "compat", "item_scores"}
"""Modules below every package; a module of ``compat`` counts as the libraries that it imports."""

WITH_RAY = (
    "orchestration/",
    "compat/ray_",
    "search/searcher.py",
    "search/scheduler.py",
)
HEAVY = {"ray", "mlflow", "optuna", "torch", "transformers", "deepspeed", "botorch", "gpytorch"}
TORCH = {"torch", "botorch", "gpytorch"}
DRAWING = {"matplotlib", "plotly"}
OUTSIDE = {
    "config": HEAVY,
    "artifacts": HEAVY,
    "weight_space": HEAVY - {"torch"},
    "selection": HEAVY - {"torch"},
    "data": {"ray", "mlflow", "optuna", "deepspeed"},
    "evaluation": {"ray", "mlflow", "optuna", "deepspeed"},
    "training": {"ray", "mlflow", "optuna"},
    "weights": {"ray", "mlflow", "optuna"},
    "scaffold": {"ray", "mlflow", "optuna", "deepspeed"},
    "integrations": {"ray", "mlflow", "optuna", "deepspeed"},
    "pareto": HEAVY | DRAWING,
    "analysis": (HEAVY - {"optuna"}) | DRAWING,
    "report": HEAVY,
    "search": {"mlflow", "transformers", "deepspeed"},
    "tracking": {"ray", "optuna", "transformers", "deepspeed"},
}
"""Package -> libraries that it must do without."""
BOTORCH = {
    "compat/botorch.py",
    "search/bayes/acquisition.py",
    "search/bayes/processes.py",
    "search/bayes/proposal.py",
}
"""The modules that know BoTorch; those of the search are imported when they are asked for."""
OWN_CHOICE = {"os._exit"}
"""Names with an underscore that are public."""

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
    names = [name.split(".") for name in imported(module)]
    through = {each[2] for each in names if each[:2] == [PACKAGE, "compat"]}
    return {each[0] for each in names}.union(*(libraries(f"compat/{each}.py") for each in through))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def text_of(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


def defined(module: str) -> set[str]:
    """Return the names with an underscore that a module gives to what is its own."""
    found: set[str] = set()
    for node in ast.walk(text_of(module)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
    return set(filter(is_private, found))


def private_names(module: str, ours: set[str]) -> set[str]:
    """Return the private names of other libraries that a module uses.

    ``self._x`` and ``cls._x`` are ours if anything of ours is called so; ``name._x`` if something
    in the same module is; all else with one underscore is of another library.
    """
    found = {
        name
        for name in imported(module)
        if not name.startswith(f"{PACKAGE}.") and any(map(is_private, name.split(".")))
    }
    here = defined(module)
    for node in ast.walk(text_of(module)):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if is_private(name):
                own = ours if owner in ("self", "cls") else here
                found |= {f"{owner}.{name}"} if name not in own else set()
            case ast.Attribute(value=value, attr=name) if is_private(name):
                found.add(f"{ast.unparse(value)}.{name}")
            case ast.Call(func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=args):
                found |= {
                    str(each.value)
                    for each in args
                    if isinstance(each, ast.Constant) and is_private(str(each.value))
                }
            case ast.keyword(arg=str(name)) if is_private(name):
                found |= {f"{name}="} if name not in ours else set()
    return found - OWN_CHOICE


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
        assert all(name.startswith(f"{PACKAGE}.config.sections.constraints.") for name in names), (
            module
        )


def test_the_report_alone_draws():
    users = {package_of(module) for module in MODULES if libraries(module) & DRAWING}
    assert users == {"report"}


def test_private_names_of_other_libraries_stand_in_compat_alone():
    modules = [module for module in MODULES if package_of(module) != "compat"]
    ours = set().union(*map(defined, modules))
    found = {module: names for module in modules if (names := private_names(module, ours))}
    assert not found, "use what is public, or move it to hft_ray/compat with a test in tests/compat"


@pytest.mark.parametrize("module", sorted(set(modules_of("compat")) - {"compat/__init__.py"}))
def test_a_module_of_compat_is_about_one_library_and_has_a_test(module):
    assert len(libraries(module) & HEAVY - {"torch"}) <= 1
    tests = (ROOT.parent / "tests" / "compat").glob("test_*.py")
    assert any(Path(module).stem in path.read_text(encoding="utf-8") for path in tests)


def test_the_rule_for_private_names_sees_them():
    """What stands in ``compat`` is what it looks for, in each of its forms."""
    assert "ray._private.state.state" in private_names("compat/ray_nodes.py", set())
    assert "super()._create_default_callbacks" in private_names("compat/ray_train.py", set())
    attributes = private_names("compat/hf_attributes.py", set())
    assert {"model.config._attn_implementation", "_tied_weights_keys"} <= attributes


def test_nothing_but_the_command_line_imports_the_command_line():
    for module in MODULES:
        if package_of(module) not in ("cli", "__main__"):
            assert "cli" not in ours(module), module


def test_nothing_but_commands_and_the_package_imports_the_actions():
    for module in MODULES:
        if package_of(module) not in ("cli", "actions", "__init__"):
            assert "actions" not in ours(module), module


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


def test_the_search_does_without_torch_until_it_is_asked_to_model():
    users = {module for module in modules_of("search") if libraries(module) & TORCH}
    assert users == {module for module in BOTORCH if package_of(module) == "search"}
    assert {module for module in MODULES if libraries(module) & {"botorch", "gpytorch"}} == BOTORCH
    imports = imports_of_modules()
    for module in users:
        by = {name for name, names in imports.items() if name_of(module) in names}
        # The sampler imports the models when it has results to learn from.
        allowed = {name_of(other) for other in (*users, "search/botorch_sampler.py")}
        assert by <= allowed, f"{module} is imported by {by}"
    first = "import sys, hft_ray.search; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", first], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_optuna_is_known_to_the_search_and_its_importances_to_the_analysis():
    users = {package_of(module) for module in MODULES if "optuna" in libraries(module)}
    assert users == {"search", "compat", "analysis"}
    assert "hft_ray.search" not in " ".join(imported("analysis/influence.py"))


def test_the_rules_see_imports_that_hide():
    """The parser finds imports in functions and under TYPE_CHECKING, or the rules say nothing."""
    assert "datasets" in libraries("data/records.py")
    assert "transformers" in libraries("data/cache.py")
    assert ours("evaluation/suite.py") == {"config", "ranks"}


def test_every_package_of_the_lower_layers_has_its_rule():
    packages = {package_of(module) for module in MODULES if "/" in module}
    assert packages - BELOW.keys() == {"orchestration", "actions", "cli"}


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


CIRCLES: list[set[str]] = []
"""Circles that are still there, each a line to be removed."""


def test_no_modules_import_one_another():
    found = circles(imports_of_modules())
    assert sorted(map(sorted, found)) == sorted(map(sorted, CIRCLES))


def test_a_circle_is_found():
    imports = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert circles(imports) == [{"a", "b", "c"}]


def twice(names: list[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


STEMS: set[str] = set()
"""File stems that still stand twice, each to be removed."""


def test_no_file_stem_stands_twice():
    stems = [Path(module).stem for module in MODULES]
    assert twice(stems) - {"__init__"} == STEMS


CLASSES: set[str] = set()
"""Class names that still stand twice, each to be removed."""


def test_no_class_name_stands_twice():
    trees = [ast.parse((ROOT / module).read_text(encoding="utf-8")) for module in MODULES]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    assert twice([node.name for node in nodes if isinstance(node, ast.ClassDef)]) == CLASSES


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_longer_than_a_reader_takes(module):
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) <= LONGEST
