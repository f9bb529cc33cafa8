"""An init container that brings a model's weights into a volume: checked, and once for all pods that share it."""

import shlex
from dataclasses import dataclass
from typing import Any

from kerf.wire.errors import WireError

HUGGING_FACE, MODELSCOPE = "huggingface", "modelscope"
FOLDER = "/models"
MODELSCOPE_IMAGE = "python:3.12-slim"
MODELSCOPE_PACKAGE = "modelscope==1.40.2"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Where weights come from. `secret` names a Secret with the key `token`."""

    source: str
    repository: str
    revision: str = ""
    image: str = ""
    """Empty: the engine's own image for Hugging Face, Python's for ModelScope."""
    secret: str = ""
    endpoint: str = ""
    """A mirror of the hub."""
    exclude: tuple[str, ...] = ()
    """Patterns of files that the engine does not need."""


def checked_fetch(fetch: Fetch) -> Fetch:
    """The same. Raises WireError where it cannot work."""
    if fetch.source not in {HUGGING_FACE, MODELSCOPE}:
        raise WireError("source", fetch.source, f"use {HUGGING_FACE} or {MODELSCOPE}")
    owner, slash, name = fetch.repository.partition("/")
    if not (owner and slash and name) or "/" in name or fetch.repository.startswith("-"):
        raise WireError("repository", fetch.repository, "write OWNER/NAME, as the hub shows it (--weights)")
    return fetch


def init_container(fetch: Fetch, name: str, engine_image: str) -> Json:
    """The init container. It needs the volume `models` at /models, writable."""
    default = engine_image if fetch.source == HUGGING_FACE else MODELSCOPE_IMAGE
    return {
        "name": "fetch",
        "image": fetch.image or default,
        "command": ["sh", "-ec", script(fetch, f"{FOLDER}/{name}")],
        "env": _env(fetch),
        "volumeMounts": [{"name": "models", "mountPath": FOLDER}],
    }


def _env(fetch: Fetch) -> list[Json]:
    hub = fetch.source == HUGGING_FACE
    env: list[Json] = [{"name": "HOME", "value": "/tmp"}]  # noqa: S108 - the container's own
    if fetch.endpoint:
        env.append({"name": "HF_ENDPOINT" if hub else "MODELSCOPE_DOMAIN", "value": fetch.endpoint})
    if fetch.secret:
        key = {"secretKeyRef": {"name": fetch.secret, "key": "token"}}
        env.append({"name": "HF_TOKEN" if hub else "MODELSCOPE_API_TOKEN", "valueFrom": key})
    return env


def script(fetch: Fetch, folder: str) -> str:
    """The shell script of the init container.

    A lock lets one pod of a shared volume work at a time. A marker holds what is complete, so that later pods start
    without the network. `hf download` neither compares checksums nor goes on in the middle of a file
    (huggingface_hub 2.4.0, findings/), so `hf cache verify` follows, what a killed run left is removed, and
    files that do not match are fetched again once.
    """
    wanted = f"{fetch.source} {fetch.repository} {fetch.revision or 'default'}"
    lines = [
        f"to={shlex.quote(folder)}",
        f"wanted={shlex.quote(wanted)}",
        'mkdir -p "$to"',
        'exec 9> "$to.lock"',
        "flock 9",
        'if [ "$(cat "$to/.kerf-complete" 2> /dev/null)" = "$wanted" ]; then',
        '  echo "$wanted: the weights are there"; exit 0',
        "fi",
        'rm -f "$to/.kerf-complete"',
        *(_hugging_face(fetch) if fetch.source == HUGGING_FACE else _modelscope(fetch)),
        'for file in "$to"/*.safetensors "$to"/*.gguf "$to"/*.bin "$to"/*.pt none; do [ -e "$file" ] && break; done',
        '[ "$file" != none ] || { echo "$wanted: the hub has no weights there"; exit 1; }',
        'printf %s "$wanted" > "$to/.kerf-complete"',
        'echo "$wanted: complete"',
    ]
    return "\n".join(lines) + "\n"


def _hugging_face(fetch: Fetch) -> list[str]:
    repository = shlex.quote(fetch.repository)
    revision = f" --revision {shlex.quote(fetch.revision)}" if fetch.revision else ""
    exclude = "".join(f" --exclude {shlex.quote(pattern)}" for pattern in fetch.exclude)
    missing = "" if fetch.exclude else " --fail-on-missing-files"
    return [
        'rm -f "$to"/.cache/huggingface/download/*.incomplete',
        f'fetch() {{ hf download {repository}{revision}{exclude} --local-dir "$to" "$@"; }}',
        f'verify() {{ hf cache verify {repository}{revision} --local-dir "$to"{missing}; }}',
        "fetch",
        'verify || { echo "checksums differ: fetching again"; fetch --force-download; verify; }',
    ]


def _modelscope(fetch: Fetch) -> list[str]:
    revision = f" --revision {shlex.quote(fetch.revision)}" if fetch.revision else ""
    exclude = f" --exclude {' '.join(map(shlex.quote, fetch.exclude))}" if fetch.exclude else ""
    return [
        f"command -v modelscope > /dev/null || pip install --quiet --no-cache-dir {MODELSCOPE_PACKAGE}",
        f'modelscope download {shlex.quote(fetch.repository)}{revision} --local-dir "$to"{exclude}',
    ]
