"""What the sandbox renders and reads: whole values."""

import io
import json
import tarfile
from pathlib import Path

from kerf.vendors.registry import NAMES
from sandbox.audit import Write, parse_audit_log
from sandbox.documents import MAKERS, TENANTS, Webhook, render_kubeconfig, render_webhook
from sandbox.fakenodes import FakeNode, render_fake_node
from sandbox.images import render_image
from sandbox.report import Report, parse_cri_log, parse_report
from sandbox.scheduling import Extender, render_scheduler_configuration


def test_the_scheduler_configuration_lets_a_users_wish_and_then_the_extender_decide():
    rendered = render_scheduler_configuration("/admin", Extender("https://127.0.0.1:1", ca_file="/ca", words=NAMES[:1]))

    (profile,) = rendered.pop("profiles")
    (extender,) = rendered.pop("extenders")
    wishes = ["NodeAffinity", "PodTopologySpread", "InterPodAffinity", "TaintToleration"]
    silenced = ["NodeResourcesFit", "NodeResourcesBalancedAllocation", "ImageLocality"]
    assert rendered == {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": "/admin", "qps": 1000, "burst": 1000},
        "leaderElection": {"leaderElect": False},
        "percentageOfNodesToScore": 100,
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 1,
    }
    assert profile["schedulerName"] == "kerf-scheduler"
    assert profile["plugins"]["score"] == {
        "enabled": [{"name": wish, "weight": 100_000} for wish in wishes],
        "disabled": [{"name": name} for name in wishes + silenced],
    }
    assert extender == {
        "urlPrefix": "https://127.0.0.1:1",
        "filterVerb": "filter",
        "prioritizeVerb": "prioritize",
        "preemptVerb": "preempt",
        "bindVerb": "bind",
        "weight": 1,
        "nodeCacheCapable": True,
        "httpTimeout": "10s",
        "enableHTTPS": True,
        "tlsConfig": {"caFile": "/ca"},
        "managedResources": [
            {"name": "nvidia.com/gpu", "ignoredByScheduler": False},
            {"name": "nvidia.com/gpumem", "ignoredByScheduler": True},
            {"name": "nvidia.com/gpumem-percentage", "ignoredByScheduler": True},
            {"name": "nvidia.com/gpucores", "ignoredByScheduler": True},
            {"name": "nvidia.com/priority", "ignoredByScheduler": True},
            {"name": "quota.kerf.dev/nvidia-mib", "ignoredByScheduler": True},
            {"name": "quota.kerf.dev/nvidia-cores", "ignoredByScheduler": True},
            {"name": "quota.kerf.dev/nvidia-cards", "ignoredByScheduler": True},
        ],
    }


def test_without_an_extender_kube_scheduler_has_none():
    assert render_scheduler_configuration("/admin", None)["extenders"] == []


def test_a_plain_http_extender_has_no_tls():
    (extender,) = render_scheduler_configuration("/admin", Extender("http://127.0.0.1:1"))["extenders"]

    assert {"enableHTTPS", "tlsConfig"}.isdisjoint(extender)


def test_a_report_holds_environment_files_listings_and_errors():
    text = "A=b=c\nEMPTY=\nfile:/etc/hostname=cAo=\nlist:/dev=null,zero\nlist:/none=\nerror:/x=open /x: gone\nready\n"

    assert parse_report(text) == Report(
        environment={"A": "b=c", "EMPTY": ""},
        files={"/etc/hostname": b"p\n"},
        listings={"/dev": ("null", "zero"), "/none": ()},
        errors={"/x": "open /x: gone"},
        complete=True,
    )


def test_a_report_is_incomplete_until_its_last_line():
    assert not parse_report("A=b\nREADY=ready\n").complete


def test_a_cri_log_gives_back_what_the_container_wrote():
    time = "2026-01-02T03:04:05.678901234Z"
    log = f"{time} stdout F first line\n{time} stdout P a line in \n{time} stdout F two pieces\n{time} stdout F \n"

    assert parse_cri_log(log) == "first line\na line in two pieces\n\n"


def test_the_audit_log_is_read_up_to_a_line_that_is_still_being_written():
    event = {
        "user": {"username": "kerf-scheduler"},
        "verb": "create",
        "objectRef": {"resource": "pods", "subresource": "binding", "namespace": "default", "name": "p"},
        "responseStatus": {"code": 201},
        "stageTimestamp": "1970-01-01T00:01:01.500000Z",
    }
    lines = [json.dumps(event) + "\n", json.dumps(event)[:40]]

    (write,) = parse_audit_log(iter(lines))

    assert write == Write("kerf-scheduler", "create", "pods/binding", "default", "p", 201)
    assert write.at == 61.5


def test_an_image_is_reproducible_and_holds_its_files():
    files = {"/sleeper": b"program", "etc/word": b"kerf"}

    image = render_image("name:1", files, entrypoint=("/sleeper",))

    assert image == render_image("name:1", dict(reversed(files.items())), entrypoint=("/sleeper",))
    outer = _untar(image)
    (listed,) = json.loads(outer["index.json"])["manifests"]
    manifest = json.loads(_blob(outer, listed))
    config = json.loads(_blob(outer, manifest["config"]))
    (layer,) = manifest["layers"]
    assert listed["annotations"] == {"io.containerd.image.name": "name:1"}
    assert config["config"] == {"Entrypoint": ["/sleeper"]}
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    assert _untar(_blob(outer, layer)) == {"sleeper": b"program", "etc/word": b"kerf"}


def test_a_fake_node_carries_what_was_asked_and_kwoks_mark():
    node = FakeNode("n", annotations={"a": "b"}, labels={"zone": "z"}, allocatable={"nvidia.com/gpu": "80"})
    offer = {"cpu": "64", "memory": "512Gi", "pods": "250", "nvidia.com/gpu": "80"}

    assert render_fake_node(node) == {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "n",
            "annotations": {"a": "b", "kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": "n", "kubernetes.io/os": "linux", "zone": "z"},
        },
        "status": {"capacity": offer, "allocatable": offer},
    }


def test_a_kubeconfig_has_one_context():
    assert render_kubeconfig("https://127.0.0.1:6443", Path("/ca.crt"), {"token": "t"}) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "sandbox",
                "cluster": {"server": "https://127.0.0.1:6443", "certificate-authority": "/ca.crt"},
            }
        ],
        "users": [{"name": "user", "user": {"token": "t"}}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "user"}}],
        "current-context": "sandbox",
    }


def test_a_webhook_is_asked_about_pods_that_concern_kerf_and_no_others():
    (webhook,) = render_webhook(Webhook("kerf", "https://127.0.0.1:1/mutate", b"CA"))["webhooks"]

    assert webhook["clientConfig"] == {"url": "https://127.0.0.1:1/mutate", "caBundle": "Q0E="}
    assert webhook["rules"] == [
        {
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["pods"],
            "scope": "*",
        }
    ]
    (condition,) = webhook["matchConditions"]
    assert "key.startsWith('nvidia.com/')" in condition["expression"]


def test_a_webhook_may_be_asked_about_more():
    webhook = Webhook("kerf", "https://127.0.0.1:1/mutate", b"CA", more=(*MAKERS, *TENANTS))
    _, more = render_webhook(webhook)["webhooks"]

    assert (more["name"], more.get("matchConditions")) == ("more.kerf.kerf.dev", None)
    assert [(rule["apiGroups"], rule["resources"]) for rule in more["rules"]] == [
        (["batch"], ["jobs", "cronjobs"]),
        (["apps"], ["deployments", "statefulsets", "replicasets", "daemonsets"]),
        (["jobset.x-k8s.io"], ["jobsets"]),
        (["leaderworkerset.x-k8s.io"], ["leaderworkersets"]),
        (["kerf.dev"], ["tenantquotas"]),
    ]


def _untar(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}


def _blob(files: dict[str, bytes], descriptor: dict) -> bytes:
    blob = files["blobs/" + descriptor["digest"].replace(":", "/")]
    assert len(blob) == descriptor["size"]
    return blob
