"""OCI images made of bytes. Pure."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

PAUSE = "kerf.dev/sandbox/pause:1"
SLEEPER = "kerf.dev/sandbox/sleeper:1"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Architectures by the names of Python's `platform.machine`, with their names in images."""

_MEDIA = "application/vnd.oci.image"


def render_image(
    name: str, files: Mapping[str, bytes], *, entrypoint: Sequence[str], architecture: str = "amd64"
) -> bytes:
    """An OCI archive with one layer: `files` by path (leading slash or not), all executable, owned by root.

    The same input gives the same bytes.
    """
    layer = _tar({path.lstrip("/"): content for path, content in files.items()}, mode=0o755)
    digest = _digest(layer)
    documents = render_layout(name, digest, len(layer), {"Entrypoint": list(entrypoint)}, architecture)
    return _tar({**documents, f"blobs/sha256/{digest[7:]}": layer}, mode=0o644)


def render_layout(name: str, layer: str, size: int, settings: Mapping[str, Any], architecture: str) -> dict[str, bytes]:
    """The files of an OCI archive other than its one layer (digest and bytes). `settings` is the image's ``config``."""
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": dict(settings),
            "rootfs": {"type": "layers", "diff_ids": [layer]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": _descriptor(f"{_MEDIA}.config.v1+json", config),
            "layers": [{"mediaType": f"{_MEDIA}.layer.v1.tar", "digest": layer, "size": size}],
        }
    )
    listed = _descriptor(f"{_MEDIA}.manifest.v1+json", manifest)
    listed["annotations"] = {"io.containerd.image.name": name}
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (config, manifest)}
    index = _json({"schemaVersion": 2, "manifests": [listed]})
    return {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index, **blobs}


def _tar(files: Mapping[str, bytes], *, mode: int) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(files[path]), mode
            tar.addfile(entry, io.BytesIO(files[path]))
    return archive.getvalue()


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()
