"""Kubernetes' own schemas and a linter of images, on the files in ``clusters/``."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
from test_cluster_files import ALL, CLUSTERS, PODS

OLDEST, NEWEST = "1.27", "1.37"
"""Versions of Kubernetes between which everything used here is there."""
KUBERAY = "ray.io/"
"""Its objects are checked by kubernetes.schema.json; their pods are Kubernetes' own."""
DOCKERFILE = CLUSTERS / "image" / "Dockerfile"


def name_of(each):
    return f"{each['kind']}-{each['metadata'].get('name', 'pod')}"


def as_pod(template):
    return {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)}


OWN = [each for each in ALL if not each["apiVersion"].startswith(KUBERAY)]
OBJECTS = [*OWN, *map(as_pod, PODS)]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("each", OBJECTS, ids=name_of)
def test_kubernetes_takes_every_object_and_every_pod(each, version):
    kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize(
    ("where", "wrong"),
    [("containers", [{"name": "x", "imagee": "y"}]), ("terminationGracePeriodSeconds", "long")],
)
def test_a_wrong_field_of_a_pod_is_seen(where, wrong):
    pod = as_pod(PODS[0])
    pod["spec"][where] = wrong
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, NEWEST, strict=True)


def test_the_linter_has_nothing_to_say_about_the_image():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_kubernetes_can_tell_that_the_images_user_is_not_root():
    """Where a pod has ``runAsNonRoot``, an image whose user is a name is not started."""
    contexts = [pod["spec"]["securityContext"] for pod in PODS]
    assert all(each["runAsNonRoot"] for each in contexts)
    assert any("runAsUser" not in each for each in contexts), "the image says which user it is"
    lines = DOCKERFILE.read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert int(users[-1]) > 0
