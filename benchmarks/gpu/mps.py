"""What NVIDIA's MPS daemon does that Kerf's backend builds on: users, namespaces, rights, limits, deaths and faults.

run.sh 7. Needs one card and root; daemons run in private pipe directories and no setting of a card changes. Prints one
JSON line per fact; the last line sums up.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CLIENT = str(Path(os.environ["KERF_BENCH_BIN"]) / "mps_client")
Json = dict[str, Any]
FACTS: list[str] = []
NO_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def say(fact: str, **seen: object) -> None:
    FACTS.append(fact)
    print(json.dumps({"fact": fact, **seen}), flush=True)


class Daemon:
    """A control daemon in the foreground."""

    def __init__(self, folder: Path, *options: str, before: Sequence[str] = ()) -> None:
        self.environment = {**os.environ, "CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
        folder.mkdir(mode=0o755)
        self.folder = folder
        self.process = subprocess.Popen(
            [*before, "nvidia-cuda-mps-control", "-f", *options],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            if self.ask("get_server_list")[0] == 0:
                return
            time.sleep(0.05)

    def ask(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            ["nvidia-cuda-mps-control"],
            input=f"{command}\n",
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=20,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    def servers(self) -> list[int]:
        return [int(word) for word in self.ask("get_server_list")[1].split() if word.isdigit()]

    def end(self) -> None:
        with suppress(subprocess.SubprocessError):
            self.ask("quit")
        try:
            self.process.wait(8)
        except subprocess.TimeoutExpired:
            for server in self.servers():
                os.kill(server, signal.SIGKILL)
            self.process.kill()
            self.process.wait(8)


class Client:
    """A client; what it printed is its JSON lines."""

    def __init__(self, environment: dict[str, str], *words: str, before: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*before, CLIENT, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def seen(self, timeout: float = 30.0) -> list[Json]:
        try:
            out, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            return [{"error": f"no answer in {timeout:.0f} s"}]
        lines = []
        for line in out.splitlines():
            try:
                lines.append(dict(json.loads(line)))
            except ValueError:
                lines.append({"said": line[:200]})
        return [*lines, {"status": self.process.returncode}]


@contextmanager
def daemon(name: str, *options: str, before: Sequence[str] = ()) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        found = Daemon(Path(place) / name, *options, before=before)
        try:
            yield found
        finally:
            found.end()


def as_user(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def memory_by_process() -> str:
    query = ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False, timeout=20).stdout.strip()


def users() -> None:
    for options in ((), ("-M",)):
        with daemon("users", *options) as served:
            clients = [Client(served.environment, "hold", "3", before=as_user(uid)) for uid in (0, 1001, 1002)]
            time.sleep(2.5)
            servers = served.servers()
            says = served.ask(f"get_client_list {servers[0]}") if servers else ""
            status = served.ask(f"get_server_status {servers[0]}") if servers else ""
            held = memory_by_process()
            say(
                f"users 0, 1001, 1002 with {' '.join(options) or 'no option'}",
                clients=[client.seen(20) for client in clients],
                servers=len(servers),
                client_list=says,
                server_status=status,
                memory=held,
                pipes=sorted(f"{oct(path.stat().st_mode)} {path.name}" for path in served.folder.iterdir()),
            )


def namespaces() -> None:
    if not shutil.which("unshare"):
        say("namespaces", skipped="no unshare")
        return
    inner = "mount -t tmpfs tmpfs /dev/shm && exec {} hold 1"
    ways = {
        "own PID namespace": ["unshare", "-p", "--fork", "--mount-proc"],
        "own IPC namespace": ["unshare", "-i"],
        "own network namespace": ["unshare", "-n"],
        "own PID, IPC, network and user": ["unshare", "-p", "-i", "-n", "--fork", "--mount-proc", *as_user(1001)],
    }
    with daemon("namespaces", "-M") as served:
        for name, before in ways.items():
            say(f"client in {name}", client=Client(served.environment, "hold", "1", before=before).seen(15))
        command = ["unshare", "-m", "-p", "-i", "--fork", "--mount-proc", "sh", "-c", inner.format(CLIENT)]
        client = Client(served.environment, before=command)
        say("client in a mount namespace with a /dev/shm of its own", client=client.seen(15))
        read_only = f"mount --bind {served.folder} {served.folder} && mount -o remount,ro,bind {served.folder}"
        command = ["unshare", "-m", "sh", "-c", f"{read_only} && exec {CLIENT} hold 1"]
        client = Client(served.environment, before=command)
        time.sleep(0.6)
        servers = served.servers()
        listed = served.ask(f"get_client_list {servers[0]}") if servers else ""
        say("client with read-only pipes", client=client.seen(15), clients_meanwhile=listed)
    with daemon("apart", "-M", before=["unshare", "-p", "-i", "--fork", "--mount-proc"]) as served:
        beside = ["unshare", "-p", "-i", "-n", "--fork", "--mount-proc"]
        client = Client(served.environment, "hold", "1", before=beside)
        time.sleep(0.6)
        servers = served.servers()
        listed = served.ask(f"get_client_list {servers[0]}") if servers else ""
        say("client and daemon in PID namespaces beside each other", client=client.seen(15), clients_meanwhile=listed)
        say("daemon in own PID and IPC namespaces", client=Client(served.environment, "hold", "1").seen(15))


def rights() -> None:
    for name, before in {"no capability": NO_RIGHTS, "user 1001": tuple(as_user(1001))}.items():
        with tempfile.TemporaryDirectory() as place:
            Path(place).chmod(0o777)
            served = Daemon(Path(place) / "rights", "-M", before=before)
            os.chown(served.folder, 0 if name == "no capability" else 1001, 0)
            if name != "no capability":
                served.end()
                shutil.rmtree(served.folder)
                served.folder.mkdir()
                os.chown(served.folder, 1001, 1001)
                served.process = subprocess.Popen(
                    [*before, "nvidia-cuda-mps-control", "-f", "-M"],
                    env=served.environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                time.sleep(1)
            seen = [Client(served.environment, "hold", "1", before=as_user(uid)).seen(12) for uid in (1001, 1002)]
            say(f"daemon with {name}", clients_1001_1002=seen, running=served.process.poll() is None)
            served.end()


def limits(card: str) -> None:
    with daemon("limits", "-M") as served:
        more = {
            **served.environment,
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
            "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"{card}=2048M",
            "CUDA_MPS_CLIENT_PRIORITY": "1",
        }
        say("limits by UUID", look=Client(more, "look").seen(), fill=Client(more, "fill").seen())
        most = [Client(served.environment, "hold", "8") for _ in range(64)]
        time.sleep(6)
        held = memory_by_process()
        ends = [client.seen(30) for client in most]
        errors = [line for seen in ends for line in seen if line.get("code")]
        say(
            "64 clients at once",
            served=sum(any(line.get("at") == "end" for line in seen) for seen in ends),
            errors=sorted({f"{line['at']}: {line['error']}" for line in errors}),
            memory=[line for line in held.splitlines() if "server" in line] or held[:200],
        )


def deaths() -> None:
    with daemon("deaths", "-M") as served:
        client = Client(served.environment, "hold", "6")
        time.sleep(2)
        (server,) = served.servers()
        os.kill(server, signal.SIGKILL)
        say("the server is killed", client=client.seen(20), new_client=Client(served.environment, "hold", "1").seen(20))
        client = Client(served.environment, "hold", "6")
        time.sleep(2)
        left = served.servers()
        served.process.kill()
        served.process.wait(5)
        new = Client(served.environment, "hold", "1").seen(20)
        say("the control daemon is killed", client=client.seen(20), new_client=new)
        again = Daemon(served.folder.parent / "again", "-M")
        say("another daemon beside what is left", client=Client(again.environment, "hold", "1").seen(20))
        again.end()
        for server in left:
            with suppress(ProcessLookupError):
                os.kill(server, signal.SIGKILL)


def faults() -> None:
    with daemon("faults", "-M") as served:
        neighbour = Client(served.environment, "hold", "5")
        time.sleep(2)
        (server,) = served.servers()
        culprit = Client(served.environment, "fault", "1").seen(20)
        status = served.ask(f"get_server_status {server}")
        say(
            "an illegal address",
            culprit=culprit,
            status=status,
            neighbour=neighbour.seen(20),
            after=served.ask(f"get_server_status {server}"),
            new_client=Client(served.environment, "hold", "1").seen(20),
            log=(served.folder / "server.log").read_text()[-800:] if (served.folder / "server.log").exists() else "",
        )


def main() -> int:
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    card = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    help_text = subprocess.run(
        ["nvidia-cuda-mps-control", "-h"], capture_output=True, text=True, check=False, timeout=9
    )
    say("options of the control daemon", text=(help_text.stdout + help_text.stderr)[:1500])
    chosen = os.environ.get("KERF_BENCH_FACTS", "").split(",")
    for part in (users, namespaces, rights, lambda: limits(card), deaths, faults):
        if chosen != [""] and getattr(part, "__name__", "") not in chosen:
            continue
        try:
            part()
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            say("a part failed", error=f"{type(error).__name__}: {error}"[:300])
    print(json.dumps({"part": 7, "facts": len(FACTS)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
