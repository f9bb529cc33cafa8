"""Ways to the API server that need no library, each as the official library reads it, and those that need it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.kube import access, commands
from kerf.kube.access import Access, access_of
from kerf.kube.client import connect
from kerf.kube.errors import KubeError
from sandbox.processes import await_until


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def a_kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any], **more: Any) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "other", "cluster": {"server": "https://other"}}, {"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    } | more
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return str(path)


def files_in(folder: Path) -> None:
    for name in ("ca.crt", "me.crt", "me.key", "token"):
        (folder / name).write_text(f"the {name}\n")


PLAIN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"server": "http://127.0.0.1:8001/"}, {}),
    ({"server": "https://api:6443/under", "insecure-skip-tls-verify": True}, {"token": "secret"}),
    ({"server": "https://api", "certificate-authority": "ca.crt"}, {"token": "secret"}),
    (
        {"server": "https://[::1]:6443", "certificate-authority": "ca.crt"},
        {"client-certificate": "me.crt", "client-key": "me.key"},
    ),
    ({"server": "https://api"}, {"tokenFile": "token"}),
]


@pytest.mark.parametrize(("cluster", "user"), PLAIN)
def test_a_plain_kubeconfig_means_what_the_library_reads(
    cluster: dict[str, Any], user: dict[str, Any], tmp_path: Path
) -> None:
    from kubernetes import client, config

    files_in(tmp_path)
    path = a_kubeconfig(tmp_path, cluster, user)
    theirs = client.Configuration()
    config.load_kube_config(path, client_configuration=theirs)
    ours = access_of(path)
    assert ours is not None

    assert (ours.host, ours.ssl_ca_cert, ours.cert_file, ours.key_file, ours.verify_ssl, ours.assert_hostname) == (
        theirs.host,
        theirs.ssl_ca_cert,
        theirs.cert_file,
        theirs.key_file,
        theirs.verify_ssl,
        theirs.assert_hostname,
    )
    sent = {each["key"]: each["value"] for each in theirs.auth_settings().values()}
    assert {each["key"]: each["value"] for each in ours.auth_settings().values()} == {
        key: value.strip() for key, value in sent.items()
    }


@pytest.mark.parametrize(
    ("cluster", "user", "more"),
    [
        ({"server": "https://api"}, {"exec": {"command": "aws"}}, {}),
        ({"server": "https://api"}, {"username": "me", "password": "secret"}, {}),
        ({"server": "https://api", "certificate-authority-data": "QQ=="}, {}, {}),
        ({"server": "https://api", "tls-server-name": "other"}, {}, {}),
        ({"server": "https://api", "proxy-url": "http://proxy"}, {}, {}),
        ({"server": "https://api", "a-newer-field": 1}, {}, {}),
        ({"server": "https://api", "certificate-authority": "missing.crt"}, {}, {}),
        ({"server": "https://api"}, {"client-certificate": "missing.crt", "client-key": "me.key"}, {}),
        ({"server": "https://api"}, {"tokenFile": "missing"}, {}),
        ({"server": "https://api"}, {"token": 7}, {}),
        ({"server": 7}, {}, {}),
        ({"server": "https://api"}, {}, {"current-context": "y"}),
        ({"server": "https://api"}, {}, {"contexts": []}),
        ({"server": "https://api"}, {}, {"clusters": None}),
    ],
)
def test_anything_else_is_the_librarys(
    cluster: dict[str, Any], user: dict[str, Any], more: dict[str, Any], tmp_path: Path
) -> None:
    files_in(tmp_path)

    assert access_of(a_kubeconfig(tmp_path, cluster, user, **more)) is None


@pytest.mark.parametrize("text", ["", "[]", "a: [", "\x00"])
def test_what_is_no_kubeconfig_is_the_librarys_to_report(text: str, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(text)

    assert access_of(str(tmp_path / "kubeconfig")) is None
    assert access_of(str(tmp_path / "missing")) is None


def test_a_proxy_is_the_librarys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy")

    assert access_of(a_kubeconfig(tmp_path, {"server": "https://api"}, {})) is None


def test_a_pod_asks_as_its_account_and_reads_a_renewed_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files_in(tmp_path)
    monkeypatch.setattr(access, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    now = [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])

    found = access_of(None)
    assert found is not None
    assert (found.host, found.ssl_ca_cert, found.verify_ssl) == (
        "https://[fd00::1]:443",
        str(tmp_path / "ca.crt"),
        True,
    )
    words = []
    for text, later in (("new", 1), ("new", 61), ("", 61)):
        words.append(found.auth_settings()["BearerToken"]["value"])
        (tmp_path / "token").write_text(text)
        now[0] += later
    words.append(found.auth_settings()["BearerToken"]["value"])

    assert words == ["Bearer the token", "Bearer the token", "Bearer new", "Bearer new"]


@pytest.mark.parametrize("missing", ["ca.crt", "token", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"])
def test_a_pod_without_an_account_is_the_librarys_to_report(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files_in(tmp_path)
    monkeypatch.setattr(access, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.delenv(missing, raising=False)
    (tmp_path / missing).unlink(missing_ok=True)

    assert access_of(None) is None


def test_a_token_is_not_printed() -> None:
    assert "secret" not in repr(Access("https://api", token="secret"))


def test_a_plain_way_loads_no_library(tmp_path: Path) -> None:
    path = a_kubeconfig(tmp_path, {"server": "http://127.0.0.1:1"}, {"token": "secret"})
    code = (
        "import sys; from kerf.kube.client import connect; connect(sys.argv[1]); sys.exit('kubernetes' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code, path], cwd=Path(access.__file__).parents[2], check=True)


def two_contexts(tmp_path: Path, user: dict[str, Any]) -> str:
    def cluster(name: str) -> dict[str, Any]:
        return {"name": name, "cluster": {"server": f"https://{name}.example"}}

    path = tmp_path / "kubeconfig"
    contexts = [{"name": n, "context": {"cluster": n, "user": "u"}} for n in ("east", "west.eu")]
    users = [{"name": "u", "user": user}]
    clusters = [cluster("east"), cluster("west.eu")]
    path.write_text(yaml.safe_dump({"contexts": contexts, "clusters": clusters, "users": users,
                                    "current-context": "east"}))  # fmt: skip
    return str(path)


def test_a_context_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = two_contexts(tmp_path, {"token": "t"})

    hosts = [access.host for name in (None, "west.eu") if (access := access_of(path, name))]

    assert hosts == ["https://east.example", "https://west.eu.example"]
    with pytest.raises(KubeError, match="nope"):
        connect(path, context="nope")


def test_a_command_that_gives_no_credential_is_named(tmp_path: Path) -> None:
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-login", "interactiveMode": "Never"}

    with pytest.raises(KubeError, match="the command no-such-login gave no credential"):
        connect(two_contexts(tmp_path, {"exec": command}))


def a_command(path: Path, script: str) -> dict[str, Any]:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "interactiveMode": "Never"}


def test_a_command_that_does_not_end_is_ended_with_all_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(commands, "ALONE_S", 0.2)
    child = tmp_path / "child"
    command = a_command(tmp_path / "login", f"sleep 1000 & echo $! > {child}; wait")

    with pytest.raises(KubeError) as caught:
        connect(two_contexts(tmp_path, {"exec": command}))

    assert f"the command {tmp_path}/login gave no credential (it did not end in 0 s; run it by itself" in str(
        caught.value
    )
    assert caplog.records == []
    pid = int(child.read_text())
    await_until(lambda: not _runs(pid), "the command's own process to end")


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("terminal", [True, False])
def test_a_command_may_ask_at_the_terminal_also_where_kerf_writes_into_a_file(
    terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What asks for a second factor opens /dev/tty, which is there in the terminal's own session alone."""
    monkeypatch.setattr(os, "isatty", lambda descriptor: terminal and descriptor == 0)
    command = a_command(tmp_path / "login", f"cut -d ' ' -f 6 /proc/$$/stat > {tmp_path}/session; exit 3")

    with pytest.raises(KubeError):
        connect(two_contexts(tmp_path, {"exec": command}))

    assert (int((tmp_path / "session").read_text()) == os.getsid(0)) is terminal


def test_what_a_command_says_when_it_fails_is_in_the_error(tmp_path: Path) -> None:
    command = a_command(tmp_path / "login", "echo 'the session has ended' >&2; exit 3")

    with pytest.raises(KubeError, match=r"gave no credential \(exec: process returned 3. the session has ended\): "):
        connect(two_contexts(tmp_path, {"exec": command}))


def test_a_command_gives_a_credential_and_is_asked_again_once_it_has_ended(tmp_path: Path) -> None:
    ended = {"token": "one", "expirationTimestamp": "2020-01-01T00:00:00Z"}
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": ended}
    (tmp_path / "answer").write_text(json.dumps(answer))
    kube = connect(two_contexts(tmp_path, {"exec": a_command(tmp_path / "login", f"cat {tmp_path}/answer")}))

    (tmp_path / "answer").write_text(json.dumps({**answer, "status": {"token": "two"}}))

    assert kube._headers()["authorization"] == "Bearer two"
