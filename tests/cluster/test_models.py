"""`kerf model deploy` on a real node: weights from a hub on this machine, a server, and its answer; or one sentence.

Hugging Face's and ModelScope's own commands fetch. A small program plays the engine: it answers as vLLM does.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from sandbox import ControlPlane, Node, await_until
from sandbox.build import cache_dir
from sandbox.processes import READY_SECONDS
from sandbox.rootfs import build_host_image
from sandbox.stack import PLUGIN, start_plugin, start_stack, stop_stack
from tests.cluster.fake_hubs import Hub, serving
from tests.cluster.gpu_pods import remove_pods

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
IMAGE = "kerf.dev/sandbox/model-server:1"
TOOLS = ("/bin/mkdir", "/bin/cat", "/bin/rm", "/usr/bin/flock")
NEEDS = {"hf": "huggingface_hub.cli.hf:main", "modelscope": "modelscope_hub.cli.main:run_cmd"}
WEIGHTS = bytes(range(256)) * 8192
FILES = {"config.json": b"{}\n", "model-1.safetensors": WEIGHTS, "model-2.safetensors": WEIGHTS[::-1]}
ANSWER = f"Paris, by 2 files with {hashlib.sha256(WEIGHTS + WEIGHTS[::-1]).hexdigest()[:12]}"
KERF = "import sys; from kerfctl.main import main; sys.exit(main())"
ASK = ("qwen3-0.6b", "--max-len", "2048", "--concurrency", "1", "--weights", "org/model", "--image", IMAGE)


@pytest.fixture(scope="module")
def hub_commands() -> Path:
    """A folder with both hubs' packages, kept in the cache. Pip checks the lock's hashes."""
    lock = HERE / "hubs.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    home = cache_dir() / f"hubs-{digest}-{sys.version_info[0]}.{sys.version_info[1]}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as claim:
        fcntl.flock(claim, fcntl.LOCK_EX)
        if not (home / "done").exists():
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", str(lock))
            subprocess.run((*pip, "--target", str(home / "site")), check=True, timeout=600)
            (home / "done").touch()
    return home / "site"


def image(hubs: Path, work: Path) -> Path:
    """An image with both hubs' commands and the stand-in for vLLM."""
    python = Path(os.path.realpath(sys.executable))
    programs = {"vllm": f'exec {python} /opt/model_server.py "$@"\n'}
    for name, entry in NEEDS.items():
        module, function = entry.split(":")
        call = f"import sys; from {module} import {function} as run; sys.argv[0] = '{name}'; sys.exit(run())"
        programs[name] = f'PYTHONPATH=/opt/hubs exec {python} -c "{call}" "$@"\n'
    for name, line in programs.items():
        (work / name).write_text(f"#!/bin/sh\n{line}")
        (work / name).chmod(0o755)
    trees = {f"/usr/local/bin/{name}": work / name for name in programs}
    trees |= {"/opt/hubs": hubs, "/opt/model_server.py": HERE / "programs" / "model_server.py"}
    build_host_image(IMAGE, trees, TOOLS, work / "image.tar")
    return work / "image.tar"


@dataclass
class World:
    """The cluster, and `kerf` as a user runs it."""

    cp: ControlPlane
    node: Node
    home: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def deploy(self, name: str, hub: Hub | None, *words: str, source: str = "huggingface") -> subprocess.Popen[str]:
        fetch = ("--fetch", source, "--endpoint", f"http://{self.node.address}:{hub.port}") if hub else ()
        argv = (sys.executable, "-c", KERF, "model", "deploy", *ASK, "--name", name, *fetch, *words)
        user = ("--kubeconfig", str(self.cp.kubeconfig), *(("--fetch-image", IMAGE) if hub else ()))
        pipe, words = subprocess.PIPE, (*argv, *user)
        self.started.append(subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, cwd=ROOT))
        return self.started[-1]

    def cache(self, name: str) -> tuple[str, str]:
        return ("--cache", str(self.home / "caches" / name))

    def remove_pods(self, name: str) -> None:
        """Kill the pods of a deployment at once, as when their node is lost."""
        selector = f"labelSelector=app.kubernetes.io/name%3D{name}"
        for pod in self.cp.api.get(f"/api/v1/namespaces/default/pods?{selector}")["items"]:
            self.cp.api.remove(f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}", 0)


@pytest.fixture(scope="module")
def world(
    control_plane: ControlPlane, node: Node, hub_commands: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    work = tmp_path_factory.mktemp("models")
    node.load_image(image(hub_commands, work))
    fleet = work / "fleet.yaml"
    fleet.write_text(yaml.safe_dump({"cards": [{"model": "H100", "memory_mib": 81_920, "count": 2}]}))
    start_stack(control_plane)
    start_plugin(control_plane, node, fleet)
    yield World(control_plane, node, work)
    stop_stack(control_plane, PLUGIN)


@pytest.fixture(autouse=True)
def nothing_left(world: World) -> Iterator[None]:
    yield
    for process in [one for one in world.started if one.poll() is None]:
        process.kill()
        process.communicate()
    world.started.clear()
    for one in world.cp.api.get("/apis/apps/v1/deployments")["items"]:
        meta = one["metadata"]
        world.cp.api.delete(f"/apis/apps/v1/namespaces/{meta['namespace']}/deployments/{meta['name']}")
    remove_pods(world.cp)


def ended(process: subprocess.Popen[str], seconds: float = READY_SECONDS) -> tuple[int, list[str], str]:
    """Exit status, printed lines, and the error."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return process.returncode, out.splitlines(), err.strip()


@pytest.mark.parametrize(("source", "goes_on"), [("huggingface", False), ("modelscope", True)])
def test_weights_that_were_interrupted_are_completed_and_the_server_answers_with_them(
    world: World, source: str, goes_on: bool
) -> None:
    """Hugging Face's command starts an interrupted file again, ModelScope's goes on where it had written it to."""
    with serving(Hub(FILES, held="model-2.safetensors"), world.node.address) as hub:
        process = world.deploy(source, hub, *world.cache(source), source=source)
        assert hub.half_sent.wait(READY_SECONDS), ended(process, 1)
        await_until(lambda: {"model-1.safetensors", "config.json"} <= {name for name, _ in hub.asked}, "the others")
        hub.asked.clear()
        world.remove_pods(source)
        await_until(lambda: "model-2.safetensors" in {name for name, _ in hub.asked}, "the next pod to go on")
        hub.let_go.set()
        status, lines, err = ended(process)

    assert (status, err) == (0, "")
    [(name, start)] = [each for each in hub.asked if each[0] != "config.json"]
    assert name == "model-2.safetensors"
    assert 0 < start <= len(WEIGHTS) // 2 if goes_on else start == 0
    assert f"{source} answers: The capital of France is {ANSWER}" in lines
    assert any(line.endswith(f"fetches its weights on {world.node.name}") for line in lines)
    assert lines[-1] == f"reach it by kubectl -n default port-forward service/{source} 8080:http"


def test_a_second_deployment_from_the_same_folder_asks_the_hub_for_nothing(world: World) -> None:
    with serving(Hub(FILES), world.node.address) as hub:
        assert ended(world.deploy("once", hub, *world.cache("shared")))[0] == 0
        hub.asked.clear()
        status, lines, _ = ended(world.deploy("once", hub, *world.cache("shared"), "--kv-dtype", "fp8"))

    assert (status, hub.asked) == (0, [])
    assert f"once answers: The capital of France is {ANSWER}" in lines


def test_what_will_not_come_ends_with_one_sentence_and_status_1(world: World) -> None:
    """All at once, because a crash loop takes its time."""
    space = "/api/v1/namespaces"
    world.cp.api.post(space, {"metadata": {"name": "poor"}})
    limits = {"metadata": {"name": "no-cards"}, "spec": {"hard": {"requests.nvidia.com/gpu": "0"}}}
    world.cp.api.post(f"{space}/poor/resourcequotas", limits)
    with ExitStack() as hubs:
        bad = hubs.enter_context(serving(Hub(FILES, damaged=True), world.node.address))
        good = hubs.enter_context(serving(Hub(FILES), world.node.address))
        running = {
            "damaged": world.deploy("damaged", bad),
            "ms-damaged": world.deploy("ms-damaged", bad, source="modelscope"),
            "broken": world.deploy("broken", good),
            "silent": world.deploy("silent", good, "--timeout", "45"),
            "poor": world.deploy("poor", good, "--namespace", "poor"),
        }
        found = {name: ended(process, 2 * READY_SECONDS) for name, process in running.items()}

    assert {name: status for name, (status, _, _) in found.items()} == dict.fromkeys(running, 1)
    errors = {name: error for name, (_, _, error) in found.items()}
    assert {name: error.count("\n") for name, error in errors.items()} == dict.fromkeys(running, 0)
    assert "fetch ended 3 times, last with exit status 1: kubectl logs -n default damaged-" in errors["damaged"]
    assert "fetch ended 3 times, last with exit status 1: kubectl logs -n default ms-damaged-" in errors["ms-damaged"]
    assert "server ended 3 times, last with exit status 3: kubectl logs -n default broken-" in errors["broken"]
    assert "silent does not answer after 45 s: silent-" in errors["silent"]
    assert f"loads the model on {world.node.name} (Startup probe failed: " in errors["silent"]
    assert errors["poor"].startswith("kerf: poor gets no pods: pods ")
    assert "exceeded quota: no-cards" in errors["poor"]
