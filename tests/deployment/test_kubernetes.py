"""The manifests: what kubectl builds of them, whether each Kubernetes version takes them, and what they promise."""

from __future__ import annotations

from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.version import Version
from programs import DEPLOYMENT, kustomize, run

import letterwise
from letterwise.api.settings import ServiceSettings

pytestmark = pytest.mark.slow

OVERLAYS = ("cpu", "gpu")
VERSIONS = sorted({Version(name) for name in kubernetes_validate.utils.all_versions()})[-3:]
OPERATOR = "monitoring.coreos.com/v1"
"""Its schemas are the operator's, not Kubernetes'."""

Manifest = dict[str, Any]


@cache
def built(overlay: str) -> list[Manifest]:
    return list(yaml.safe_load_all(run(kustomize(), "kustomize", DEPLOYMENT / "k8s" / "overlays" / overlay)))


def of_kind(overlay: str, kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in built(overlay) if each["kind"] == kind}


def pods(overlay: str) -> dict[str, Manifest]:
    return {name: each["spec"]["template"]["spec"] for name, each in of_kind(overlay, "Deployment").items()}


def container(overlay: str, name: str = "letterwise") -> Manifest:
    (only,) = pods(overlay)[name]["containers"]
    found: Manifest = only
    return found


def settings(overlay: str) -> dict[str, str]:
    (configuration,) = of_kind(overlay, "ConfigMap").values()
    data: dict[str, str] = configuration["data"]
    return data


@pytest.mark.parametrize("version", VERSIONS, ids=str)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_every_manifest_to_the_letter(overlay: str, version: Version) -> None:
    example = yaml.safe_load((DEPLOYMENT / "k8s" / "secret.example.yaml").read_text(encoding="utf-8"))
    manifests = [each for each in [*built(overlay), example] if each["apiVersion"] != OPERATOR]
    assert len(manifests) >= 15
    for manifest in manifests:
        kubernetes_validate.validate(manifest, str(version), strict=True)


def test_a_misspelled_field_is_refused() -> None:
    (service,) = (each for each in built("cpu") if each["kind"] == "Service" and each["metadata"]["name"] == "redis")
    wrong = {**service, "spec": {**service["spec"], "selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, str(VERSIONS[-1]), strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
class TestSecurity:
    def test_no_pod_runs_as_root(self, overlay: str) -> None:
        for pod in pods(overlay).values():
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] > 0
            assert pod["securityContext"]["runAsGroup"] > 0

    def test_no_pod_may_write_to_its_root(self, overlay: str) -> None:
        for name in pods(overlay):
            assert container(overlay, name)["securityContext"]["readOnlyRootFilesystem"] is True

    def test_no_pod_has_or_gains_a_capability(self, overlay: str) -> None:
        for name in pods(overlay):
            context = container(overlay, name)["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["allowPrivilegeEscalation"] is False
            assert context["privileged"] is False

    def test_system_calls_are_filtered(self, overlay: str) -> None:
        for pod in pods(overlay).values():
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}

    def test_no_pod_holds_a_token_of_the_cluster(self, overlay: str) -> None:
        assert all(pod["automountServiceAccountToken"] is False for pod in pods(overlay).values())
        assert of_kind(overlay, "ServiceAccount")["letterwise"]["automountServiceAccountToken"] is False
        assert pods(overlay)["letterwise"]["serviceAccountName"] == "letterwise"

    def test_no_pod_shares_anything_with_its_node(self, overlay: str) -> None:
        for pod in pods(overlay).values():
            assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
            assert not any("hostPath" in volume for volume in pod["volumes"])

    def test_the_namespace_enforces_the_restricted_standard(self, overlay: str) -> None:
        labels = of_kind(overlay, "Namespace")["letterwise"]["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    def test_every_container_is_bounded(self, overlay: str) -> None:
        for name in pods(overlay):
            resources = container(overlay, name)["resources"]
            assert {"cpu", "memory", "ephemeral-storage"} <= resources["requests"].keys()
            assert {"cpu", "memory", "ephemeral-storage"} <= resources["limits"].keys()
        assert all("sizeLimit" in volume["emptyDir"] for volume in _volumes(overlay) if "emptyDir" in volume)

    def test_every_image_has_a_version(self, overlay: str) -> None:
        tags = {name: container(overlay, name)["image"].rpartition(":")[2] for name in pods(overlay)}
        assert tags["letterwise"] == f"{letterwise.__version__}-{overlay}"
        assert all(tag != "latest" and tag[0].isdigit() for tag in tags.values())

    def test_nothing_may_talk_that_need_not(self, overlay: str) -> None:
        policies = of_kind(overlay, "NetworkPolicy")
        assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        for policy in policies.values():
            for rule in policy["spec"].get("ingress", []) + policy["spec"].get("egress", []):
                assert rule.get("from") or rule.get("to"), "a rule without a peer lets everybody pass"
                assert rule["ports"]
        assert "egress" not in policies["redis"]["spec"]

    def test_keys_come_from_a_secret_that_has_to_be_there(self, overlay: str) -> None:
        (secret,) = (volume["secret"] for volume in _volumes(overlay) if "secret" in volume)
        assert secret == {"secretName": "letterwise-api-keys", "defaultMode": 0o440}
        (mount,) = (each for each in container(overlay)["volumeMounts"] if each["name"] == "api-keys")
        assert settings(overlay)["API_KEYS_FILE"].startswith(mount["mountPath"])
        assert settings(overlay)["API_KEY"] == ""
        assert not of_kind(overlay, "Secret")

    def test_the_model_is_mounted_and_cannot_be_changed(self, overlay: str) -> None:
        (mount,) = (each for each in container(overlay)["volumeMounts"] if each["name"] == "model")
        assert mount == {"name": "model", "mountPath": settings(overlay)["MODEL_PATH"], "readOnly": True}

    def test_users_come_by_tls_and_see_no_metrics(self, overlay: str) -> None:
        (ingress,) = of_kind(overlay, "Ingress").values()
        (rule,) = ingress["spec"]["rules"]
        assert [host for each in ingress["spec"]["tls"] for host in each["hosts"]] == [rule["host"]]
        assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/ssl-redirect"] == "true"
        exact = {path["path"]: path["pathType"] for path in rule["http"]["paths"]}
        assert exact["/"] == "Exact"
        assert not any("/metrics".startswith(path) for path in exact if path != "/")


def _volumes(overlay: str) -> list[Manifest]:
    return [volume for pod in pods(overlay).values() for volume in pod["volumes"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
class TestOperation:
    def test_a_stopping_pod_has_time_to_finish_what_is_in_flight(self, overlay: str) -> None:
        before = container(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
        drained = before + float(settings(overlay)["DRAIN_SECONDS"])
        assert pods(overlay)["letterwise"]["terminationGracePeriodSeconds"] > drained

    def test_probes_ask_for_life_and_readiness_apart(self, overlay: str) -> None:
        probes = {kind: container(overlay)[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
        asked = {kind: probe["httpGet"]["path"] for kind, probe in probes.items()}
        assert asked == {"startup": "/ready", "readiness": "/ready", "liveness": "/health"}
        assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] >= 300

    def test_settings_are_real_and_behind_a_proxy(self, overlay: str) -> None:
        names = {name.upper() for name in ServiceSettings.model_fields}
        assert names <= settings(overlay).keys()
        assert all(name in names or name.startswith("OTEL_") for name in settings(overlay))
        assert settings(overlay)["TRUST_PROXY_HEADERS"] == "true"
        assert settings(overlay)["ENABLE_GPU"] == ("true" if overlay == "gpu" else "false")
        (port,) = container(overlay)["ports"]
        assert str(port["containerPort"]) == settings(overlay)["PORT"]

    def test_replicas_share_their_rate_limits(self, overlay: str) -> None:
        host, _, port = settings(overlay)["RATE_LIMIT_STORAGE"].removeprefix("redis://").partition(":")
        assert of_kind(overlay, "Service")[host]["spec"]["ports"][0]["port"] == int(port)

    def test_replicas_spread_scale_and_survive_maintenance(self, overlay: str) -> None:
        spread = {each["topologyKey"] for each in pods(overlay)["letterwise"]["topologySpreadConstraints"]}
        assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        scaler = of_kind(overlay, "HorizontalPodAutoscaler")["letterwise"]["spec"]
        budget = of_kind(overlay, "PodDisruptionBudget")["letterwise"]["spec"]
        assert {metric["type"] for metric in scaler["metrics"]} == {"Resource", "Pods"}
        assert scaler["minReplicas"] > budget["minAvailable"] >= 1
        assert "replicas" not in of_kind(overlay, "Deployment")["letterwise"]["spec"]

    def test_selectors_find_their_pods(self, overlay: str) -> None:
        deployments = of_kind(overlay, "Deployment")
        labels = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in deployments.items()}
        for name, service in of_kind(overlay, "Service").items():
            assert service["spec"]["selector"].items() <= labels[name].items()
        selector = of_kind(overlay, "PodDisruptionBudget")["letterwise"]["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels["letterwise"].items()
        (monitor,) = of_kind(overlay, "ServiceMonitor").values()
        service = of_kind(overlay, "Service")["letterwise"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()

    def test_the_queue_metric_is_that_of_the_adapter(self, overlay: str) -> None:
        adapter = yaml.safe_load((DEPLOYMENT / "k8s" / "prometheus-adapter.values.yaml").read_text(encoding="utf-8"))
        (rule,) = adapter["rules"]["custom"]
        scaler = of_kind(overlay, "HorizontalPodAutoscaler")["letterwise"]["spec"]
        (asked,) = (metric["pods"]["metric"]["name"] for metric in scaler["metrics"] if metric["type"] == "Pods")
        assert asked == rule["name"]["as"]


def test_a_gpu_is_asked_for_where_one_is_needed() -> None:
    for which in ("requests", "limits"):
        assert container("gpu")["resources"][which]["nvidia.com/gpu"] == "1"
        assert "nvidia.com/gpu" not in container("cpu")["resources"][which]
    assert pods("gpu")["letterwise"]["tolerations"]
