"""`kerf scale`: manifests that real API servers accept, and wrong words."""

import kubernetes_validate
import pytest
import yaml

from kerfctl.main import main

CHAT = "team-a/Deployment/chat"


def made(capsys, *words: str) -> dict:
    assert main(["scale", CHAT, *words]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_an_autoscaler_follows_the_metric_of_the_workload(capsys) -> None:
    found = made(capsys, "--hpa", "--max", "9")

    kubernetes_validate.validate(found, "1.36", strict=True)
    assert found["spec"]["maxReplicas"] == 9
    assert found["spec"]["metrics"][0]["external"] == {
        "metric": {
            "name": "kerf_recommended_replicas",
            "selector": {"matchLabels": {"namespace": "team-a", "kind": "Deployment", "name": "chat"}},
        },
        "target": {"type": "AverageValue", "averageValue": "1"},
    }


def test_a_scaled_object_asks_prometheus(capsys) -> None:
    found = made(capsys, "--keda", "--prometheus", "http://p:9090")

    (trigger,) = found["spec"]["triggers"]
    assert (found["apiVersion"], found["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert trigger["metadata"] == {
        "serverAddress": "http://p:9090",
        "query": 'max(kerf_recommended_replicas{namespace="team-a",kind="Deployment",name="chat"})',
        "threshold": "1",
        "ignoreNullValues": "false",  # a metric that is missing is no recommendation of 0 replicas
    }
    behavior = found["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"] == {"stabilizationWindowSeconds": 600}


def test_with_a_cluster_the_series_of_others_do_not_count(capsys) -> None:
    (trigger,) = made(capsys, "--keda", "--prometheus", "http://p:9090", "--cluster", "west")["spec"]["triggers"]
    external = made(capsys, "--hpa", "--cluster", "west")["spec"]["metrics"][0]["external"]

    series = 'kerf_recommended_replicas{namespace="team-a",kind="Deployment",name="chat",cluster="west"}'
    assert trigger["metadata"]["query"] == f"max({series})"
    assert external["metric"]["selector"]["matchLabels"]["cluster"] == "west"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((CHAT, "--hpa", "--cluster", 'a"b'), '--cluster a"b: write a name of at most 63 letters'),
        ((CHAT, "--hpa", "--cluster", ""), "write a name of at most 63 letters"),
        (("chat", "--hpa"), "write NAMESPACE/KIND/NAME"),
        ((CHAT, "--hpa", "--prometheus", "http://p:9090"), "--prometheus: an HPA takes the metric from an adapter"),
        (("a/Job/b", "--hpa"), "no autoscaler scales a Job"),
        (('a/Deployment/b"}', "--hpa"), "write NAMESPACE/KIND/NAME"),
        ((CHAT, "--keda"), "write http://HOST:PORT"),
        ((CHAT, "--keda", "--prometheus", "ftp:/x"), "--prometheus ftp:/x"),
        ((CHAT, "--hpa", "--min", "0"), "write 1 <= MIN <= MAX"),
        ((CHAT, "--hpa", "--max", "99999999999"), "write 1 <= MIN <= MAX"),
        (
            (f"a/Deployment/{'b' * 64}", "--hpa"),
            "an HPA finds its metric by labels of at most 63 characters: use --keda",
        ),
        ((CHAT, "--hpa", "--cooldown", "-5"), "write seconds from 0 to 3600"),
    ],
)
def test_wrong_words_are_refused_with_the_fix(words: tuple[str, ...], said: str, capsys) -> None:
    assert main(["scale", *words]) == 1
    assert said in capsys.readouterr().err
