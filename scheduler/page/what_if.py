"""What would happen to pasted pods: `kerf simulate` on a copy of what the scheduler knows, in a process of its own.

The process gets two files in a folder of its own, no credentials, and bounds on time, memory and
output. Pods that wait are not in the copy: the answer is about what runs now.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

import kerf
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.views.page.access import Access, Veil
from kerf.wire.json import Json, items_at, text_at
from kerf.wire.quota import PATH as TENANT_QUOTAS
from kerf.wire.rendered import render_holder, render_node
from kerf.wire.resourcequota import PATH as RESOURCE_QUOTAS
from scheduler.state.bookings import State
from scheduler.state.store import Store

LARGEST_PASTE = 64 << 10
LARGEST_ANSWER = 1 << 20
SECONDS = 60.0
CPU_S = 30
MEMORY = 2 << 30
MOST_LINES = 200
WORLD, PASTED = "world.json", "pasted.yaml"
BOUNDED = (
    "import os, resource, sys\n"
    "os.nice(10)\n"
    f"resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))\n"
    f"resource.setrlimit(resource.RLIMIT_CPU, ({CPU_S}, {CPU_S}))\n"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    "from kerfctl.main import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)
"""The program `kerf` after it has bound itself. It is another program, not a part of this one."""
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG")
_OWN = {"PYTHONPATH": str(Path(kerf.__file__).parents[1])}
"""The program comes from where this one does."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The files by which the scheduler itself decides."""

    policy: str | None = None
    vendors: tuple[str, ...] = ()
    prices: str | None = None

    def arguments(self) -> Iterator[str]:
        """As arguments of `kerf`."""
        for path in self.vendors:
            yield from ("--vendors", str(Path(path).absolute()))
        yield from ("simulate", "--new", "--json")
        if self.policy:
            yield from ("--policy", str(Path(self.policy).absolute()))
        if self.prices:
            yield from ("--prices", str(Path(self.prices).absolute()))
        yield from (WORLD, PASTED)


class WhatIf:
    """One question at a time."""

    def __init__(self, store: Store, kube: Kube, terms: Terms) -> None:
        self._store = store
        self._kube = kube
        self._terms = terms
        self._busy = asyncio.Lock()

    async def answer(self, pasted: str, access: Access, known: frozenset[str]) -> dict[str, Any]:
        """Where the pods would go, or one sentence why that cannot be said."""
        if access.nothing:
            return _error("you may list the pods of no namespace, so there is nothing to try")
        if not pasted.strip():
            return _error("paste the YAML of pods, or of what makes pods")
        if len(pasted.encode()) > LARGEST_PASTE:
            return _error(f"that is more than {LARGEST_PASTE >> 10} KiB; paste fewer objects")
        async with self._busy:
            with tempfile.TemporaryDirectory(prefix="kerf-what-if-") as folder:
                try:
                    await asyncio.to_thread(self._write, Path(folder), pasted)
                except KubeError as error:
                    return _error(f"the quotas cannot be read now, so the answer might be wrong: {error}")
                found = await self._run(folder)
        return _shown(found, access, known)

    def _write(self, folder: Path, pasted: str) -> None:
        with (folder / WORLD).open("wb") as file:
            file.write(b'{"items":[')
            for number, item in enumerate(self._world()):
                file.write((b"," if number else b"") + orjson.dumps(item))
            file.write(b"]}")
        (folder / PASTED).write_text(pasted, encoding="utf-8", errors="replace")

    def _world(self) -> Iterator[Json]:
        desk, ledger = self._store.desk, self._store.ledger
        for node in desk.nodes():
            yield render_node(node, desk.vendors)
        for one in ledger.bookings(State.ASSUMED, State.CONFIRMED):
            if one.holding is not None:
                yield render_holder(one.holding, one.cpu_milli, one.memory_mib, one.priority)
        yield from self._quotas(TENANT_QUOTAS, "TenantQuota")
        yield from self._quotas(RESOURCE_QUOTAS, "ResourceQuota")

    def _quotas(self, path: str, kind: str) -> Sequence[Json]:
        try:
            return [{**item, "kind": kind} for item in self._kube.list(path)[0]]
        except NotFound:  # its CRD is not installed
            return []

    async def _run(self, folder: str) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            BOUNDED,
            *self._terms.arguments(),
            cwd=folder,
            env={**{name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}, **_OWN, "HOME": folder},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(SECONDS):
                output, problem = await asyncio.gather(_most_of(process.stdout), _most_of(process.stderr))
                await process.wait()
        except TimeoutError:
            return _error(f"that takes longer than {SECONDS:.0f} s; paste fewer pods")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _decoded(output, problem)


async def _most_of(stream: asyncio.StreamReader | None) -> bytes:
    """What a process writes, up to a bound; it ends by its other bounds if it waits to write more."""
    found = bytearray()
    while stream is not None and len(found) <= LARGEST_ANSWER and (part := await stream.read(LARGEST_ANSWER)):
        found += part
    return bytes(found[: LARGEST_ANSWER + 1])


def _decoded(output: bytes, problem: bytes) -> dict[str, Any]:
    try:
        return dict(orjson.loads(output))
    except (orjson.JSONDecodeError, TypeError, ValueError):
        words = problem.decode("utf-8", "replace").strip().splitlines()
        said = next((line.removeprefix("kerf: ") for line in reversed(words) if line.startswith("kerf: ")), "")
        return _error(said or "that could not be tried; paste fewer pods")


def _shown(found: Json, access: Access, known: frozenset[str]) -> dict[str, Any]:
    """The answer without anything of namespaces that the person may not see."""
    veil = Veil.of(access, known)
    if "error" in found:
        return _error(veil.text(text_at(found, "error")))
    pods = [_pod(item, veil) for item in (*items_at(found, "refused"), *items_at(found, "pods"))]
    notes = [veil.text(str(note)) for part in ("notes", "left_out") for note in found.get(part) or ()]
    if not pods:
        notes.append(
            "no pod here looks for a place: paste pods without a node, or what makes pods, as a Deployment does"
        )
    more = [f"and {len(pods) - MOST_LINES} more pods"] if len(pods) > MOST_LINES else []
    counts = {"all": len(pods), "placed": sum(bool(pod["node"]) for pod in pods)}
    return {"pods": pods[:MOST_LINES], "counts": counts, "notes": [*notes[:MOST_LINES], *more]}


def _pod(item: Json, veil: Veil) -> dict[str, Any]:
    namespace, name = text_at(item, "namespace"), text_at(item, "name")
    if not veil.access.may_see(namespace):
        return {"pod": f"{namespace}/{name}", "node": "", "why": f"you may not list the pods of {namespace}"}
    slices = [
        [text_at(part, "card"), part.get("memory_mib", 0), part.get("cores", 0)] for part in items_at(item, "slices")
    ]
    why = veil.text(text_at(item, "reason"))
    return {"pod": f"{namespace}/{name}", "node": text_at(item, "node"), "why": why, "slices": slices}


def _error(words: str) -> dict[str, Any]:
    return {"error": words}
