"""`kerf faults replay`: a kernel log as a list for machines and a table for people."""

import bz2
import gzip
import io
import json
import lzma
from pathlib import Path
from types import SimpleNamespace

import pytest

from kerf.testing.builders import a_node
from kerf.testing.fake_kube import FakeKube
from kerf.wire.annotations import RESUME
from kerfctl.main import main

LOG = "[  100.1] NVRM: Xid (PCI:0000:5D:00): 109, pid=1, name=a, CTX SWITCH TIMEOUT\n"
EVENT = {
    "card": "0000:5d:00",
    "code": 109,
    "verdict": "warn",
    "count": 1,
    "text": "NVRM: Xid (PCI:0000:5D:00): 109, pid=1, name=a, CTX SWITCH TIMEOUT",
}


def a_file(folder: Path, text: str | bytes, name: str = "kmsg") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_the_list_has_one_object_a_card_code_and_minute(tmp_path, capsys):
    assert main(["faults", "replay", a_file(tmp_path, LOG), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [EVENT]


def test_a_policy_overrides_a_code(tmp_path, capsys):
    policy = {
        "apiVersion": "kerf.dev/v1alpha1",
        "kind": "SchedulingPolicy",
        "spec": {"recovery": {"codes": {109: "cordon"}}},
    }
    path = a_file(tmp_path, json.dumps(policy), "policy.yaml")

    assert main(["faults", "replay", a_file(tmp_path, LOG), "--json", "--policy", path]) == 0
    assert json.loads(capsys.readouterr().out) == [{**EVENT, "verdict": "cordon"}]


def test_the_table_names_the_code(tmp_path, capsys):
    assert main(["faults", "replay", a_file(tmp_path, LOG)]) == 0

    out = capsys.readouterr().out
    assert "context switch timeout" in " ".join(out.replace("│", " ").split())
    assert "0000:5d:00" in out


def test_a_log_without_faults_is_an_empty_list_and_bytes_that_are_no_text_are_passed_over(tmp_path, capsys):
    assert main(["faults", "replay", a_file(tmp_path, b"\xff\xfe\x00 nothing\n"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_log_is_read_from_standard_input(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(LOG.encode())))

    assert main(["faults", "replay", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [EVENT]


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
def test_a_log_is_read_as_windows_shell_wrote_it(tmp_path, capsys, mark):
    text = ("\ufeff" + LOG.replace("\n", "\r\n")).encode(mark)

    assert main(["faults", "replay", a_file(tmp_path, text), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [EVENT]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_log_is_read_as_log_rotation_compressed_it(tmp_path, monkeypatch, capsys, compress):
    packed = compress(LOG.encode())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(packed)))

    for name in (a_file(tmp_path, packed), "-"):
        assert main(["faults", "replay", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == [EVENT]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x28\xb5\x2f\xfd\x04\x00", "it is compressed with zstd; run zstdcat FILE | kerf faults replay -"),
        (b"LPKSHHRH\0\0", "it is a journal of systemd; run journalctl -k --file FILE | kerf faults replay -"),
        (gzip.compress(LOG.encode(), mtime=0)[:-9], "its compressed text is damaged"),
        (gzip.compress(LOG.encode(), mtime=0)[:12] + b"\xff" * 20, "its compressed text is damaged"),
        (lzma.compress(LOG.encode())[:-9] + b"123456789", "its compressed text is damaged"),
    ],
    ids=["zstd", "a journal", "too short", "no deflate", "no xz"],
)
def test_a_file_that_is_no_text_of_a_log_is_refused_and_never_a_log_without_faults(tmp_path, capsys, content, sentence):
    assert main(["faults", "replay", a_file(tmp_path, content), "--json"]) == 1

    out, err = capsys.readouterr()
    assert (out, sentence in err) == ("", True)


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path, capsys):
    assert main(["faults", "replay", str(tmp_path / "none"), "--json"]) == 1

    assert "name a readable file, or - for standard input" in capsys.readouterr().err


@pytest.mark.parametrize("codes", [{"x": "warn"}, {"79": "kill"}, {"-1": "warn"}, {True: "warn"}, {"1234567": "warn"}])
def test_a_wrong_override_names_the_field(tmp_path, capsys, codes):
    spec = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": {"recovery": {"codes": codes}}}
    path = a_file(tmp_path, json.dumps(spec), "policy.yaml")

    assert main(["faults", "replay", a_file(tmp_path, LOG), "--policy", path]) == 1
    assert "spec.recovery.codes." in capsys.readouterr().err


def test_recovery_goes_on_where_a_person_says_so_and_a_node_that_is_not_there_is_an_error(monkeypatch, capsys):
    kube = FakeKube(a_node("a"))
    monkeypatch.setattr("kerfctl.cluster.connect_to", lambda args: kube)

    assert main(["faults", "resume", "a", "b"]) == 1

    assert capsys.readouterr().out == "node a: recovery goes on\n"
    assert int(kube.get("/api/v1/nodes/a")["metadata"]["annotations"][RESUME]) > 1_764_000_000


# ---- inference servers
def test_a_servers_log_is_read_for_errors_of_cuda_and_nccl(tmp_path, capsys):
    text = "INFO started\nRuntimeError: CUDA error: unspecified launch failure\nRuntimeError: NCCL error in: x\n"

    assert main(["faults", "server", "--log", a_file(tmp_path, text, "serve.log")]) == 1

    said = "line 2: CUDA error: unspecified launch failure\nline 3: NCCL error\n"
    assert capsys.readouterr().out == said


def test_a_log_without_errors_is_well(tmp_path, capsys):
    assert main(["faults", "server", "--log", a_file(tmp_path, "CUDA out of memory\n")]) == 0
    assert capsys.readouterr().out == "no error of CUDA, cuDNN or NCCL is in this log\n"


@pytest.fixture
def pages(monkeypatch):
    """What a server answers by path; None is a refusal. Time passes while the verb sleeps."""
    answers = {"/health": "", "/metrics": "vllm:num_requests_running 2\nvllm:generation_tokens_total 1200\n"}
    now = [0.0]

    def fetch(url: str, _seconds: float, largest: int) -> bytes:
        found = answers[f"/{url.rpartition('/')[2]}"]
        if found is None:
            raise OSError("connection refused")
        return found.encode()

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("kerfctl.server_signs.fetch", fetch)
    monkeypatch.setattr("kerfctl.server_signs.time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return answers


def test_a_server_is_looked_at_once(pages, capsys):
    assert main(["faults", "server", "127.0.0.1:8000"]) == 0
    assert capsys.readouterr().out == (
        "the health page answers, 2 requests run, 1,200 tokens so far: Kerf can watch this server\n"
    )


def test_a_server_that_stalls_is_seen_after_a_minute(pages, capsys):
    assert main(["faults", "server", "http://127.0.0.1:8000/", "--seconds", "90"]) == 1
    assert capsys.readouterr().out == (
        "the server reports its health page answers, requests run, and no token moved for 60 seconds\n"
    )


@pytest.mark.parametrize(
    ("page", "arguments", "sentence"),
    [
        (None, ["127.0.0.1:1"], "http://127.0.0.1:1/metrics: nothing answers (connection refused)"),
        ("up 1\n", ["127.0.0.1:1"], "no counter of tokens of vLLM or SGLang"),
        ("", ["ftp://127.0.0.1"], "ftp://127.0.0.1: write http://HOST:PORT"),
        ("", [], "write the server's URL, or --log FILE, or both"),
    ],
)
def test_a_server_that_cannot_be_watched_is_one_clear_error(pages, capsys, page, arguments, sentence):
    pages["/metrics"] = page

    assert main(["faults", "server", *arguments]) == 1
    assert sentence in capsys.readouterr().err
