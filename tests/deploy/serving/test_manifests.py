"""The files for Kubernetes and KServe are valid by published schemas, fit each other and the flags of the service."""

import re
import shlex

import pytest
import yaml

from tests.source import ROOT

CLUSTER = ROOT / "deploy" / "cluster"
DOCKERFILE = (ROOT / "deploy" / "serving" / "Dockerfile").read_text(encoding="utf-8")
OBJECTS = list(yaml.safe_load_all((CLUSTER / "deployment.yaml").read_text(encoding="utf-8")))
INFERENCE_SERVICE = yaml.safe_load((CLUSTER / "inferenceservice.yaml").read_text(encoding="utf-8"))
BY_KIND = {one["kind"]: one for one in OBJECTS}
POD = BY_KIND["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]
PREDICTOR = INFERENCE_SERVICE["spec"]["predictor"]
# Of ComponentExtensionSpec in KServe's pkg/apis/serving/v1beta1/component.go, beside the fields of a pod.
EXTENSION = {"minReplicas": int, "maxReplicas": int, "scaleMetric": str, "scaleTarget": int, "timeout": int}
# Knative, on which KServe runs by default, refuses them in a pod: pkg/apis/serving/fieldmask.go.
NOT_IN_KNATIVE = {"terminationGracePeriodSeconds", "restartPolicy", "lifecycle", "hostNetwork", "initContainers"}


def predictor_as_pod() -> dict:
    spec = {key: value for key, value in PREDICTOR.items() if key not in EXTENSION}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": INFERENCE_SERVICE["metadata"], "spec": spec}


@pytest.mark.parametrize("thing", [*OBJECTS, predictor_as_pod()], ids=lambda thing: thing["kind"])
def test_kubernetes_takes_it(thing):
    """By the JSON schemas that are made of Kubernetes' own OpenAPI; strict refuses unknown fields."""
    validate = pytest.importorskip("kubernetes_validate").validate
    for version in ("1.29", "1.35"):
        validate(thing, version, strict=True)


def test_the_schemas_are_not_asleep():
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    wrong = yaml.safe_load(yaml.safe_dump(BY_KIND["Deployment"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["readyProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.35", strict=True)


def test_the_objects_find_each_other():
    assert sorted(BY_KIND) == ["Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service"]
    labels = POD["metadata"]["labels"]
    assert BY_KIND["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["Service"]["spec"]["selector"] == labels
    ports = {port["name"] for port in CONTAINER["ports"]}
    assert {port["targetPort"] for port in BY_KIND["Service"]["spec"]["ports"]} == {"http"} <= ports
    target = BY_KIND["HorizontalPodAutoscaler"]["spec"]
    assert target["scaleTargetRef"]["name"] == BY_KIND["Deployment"]["metadata"]["name"]
    assert "replicas" not in BY_KIND["Deployment"]["spec"], "each apply would undo what the autoscaler set"
    assert 2 <= target["minReplicas"] < target["maxReplicas"], "one pod alone cannot be moved without a gap"
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {one["name"] for one in POD["spec"]["volumes"]}


def flag(args: list[str], name: str) -> str:
    [value] = [word.partition("=")[2] for word in args if word.startswith(f"--{name}=")]
    return value


@pytest.mark.parametrize("container", [CONTAINER, PREDICTOR["containers"][0]], ids=["deployment", "kserve"])
def test_the_container_serves_where_it_is_asked_and_can_write_nowhere(container):
    port = container["ports"][0]["containerPort"]
    assert flag(container["args"], "host") == "0.0.0.0" and int(flag(container["args"], "port")) == port
    for name, path in (("readinessProbe", "/v2/health/ready"), ("livenessProbe", "/v2/health/live")):
        assert container[name]["httpGet"]["path"] == path
        assert container[name]["httpGet"]["port"] in ("http", port)
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert int(flag(container["args"], "threads")) == int(container["resources"]["requests"]["cpu"])


def test_a_pod_has_time_to_drain():
    [pause] = re.findall(r"\d+", CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = int(flag(CONTAINER["args"], "grace_seconds"))
    assert POD["spec"]["terminationGracePeriodSeconds"] >= int(pause) + grace + 5
    assert PREDICTOR["timeout"] > int(flag(PREDICTOR["containers"][0]["args"], "grace_seconds"))
    metrics = POD["metadata"]["annotations"]["prometheus.io/port"]
    assert metrics == flag(CONTAINER["args"], "metrics_port") != str(CONTAINER["ports"][0]["containerPort"])


def test_kserve_and_knative_know_the_fields():
    assert (INFERENCE_SERVICE["apiVersion"], INFERENCE_SERVICE["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    assert INFERENCE_SERVICE["spec"].keys() == {"predictor"}
    for name, kind in EXTENSION.items():
        assert type(PREDICTOR[name]) is kind
    assert PREDICTOR["scaleMetric"] in ("concurrency", "rps", "cpu", "memory")
    [container] = PREDICTOR["containers"]
    assert container["name"] == "kserve-container" and container["args"][0] == "/mnt/models"
    assert [one["name"] for one in container["env"]] == ["STORAGE_URI"]
    assert not NOT_IN_KNATIVE & (PREDICTOR.keys() | container.keys())


def instructions() -> list[tuple[str, str]]:
    text = DOCKERFILE.replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_image_has_no_root_and_no_paddle():
    words = dict(instructions())
    user = words["USER"].split(":")[0]
    assert user.isdigit() and int(user) == POD["spec"]["securityContext"]["runAsUser"] > 0
    assert "v2/health/ready" in words["HEALTHCHECK"]
    installed = " ".join(text for name, text in instructions() if name == "RUN")
    assert "paddle" not in installed and "openvino" not in installed
    last = [name for name, _ in instructions()]
    assert last.count("FROM") == 2 and last.index("USER") < last.index("ENTRYPOINT")
    copied = [shlex.split(text)[0] for name, text in instructions() if name == "COPY" and not text.startswith("--from")]
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / "deploy" / "serving" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    assert all(f"!{name}" in ignored for name in copied if not name.startswith("requirements"))
