"""The version that upgrades start from, as data: its daemons and its limiter, out of an archive beside this file.

An archive instead of git's history: a checkout may be shallow, and the tests must not depend on that.
`git archive 4c05310 kerf scheduler webhook deviceplugin limiter/src limiter/include limiter/Makefile charts`
made it, without the folders of the CLI and the sandbox.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import orjson

from sandbox.build import cache_dir

COMMIT = "4c05310"
ARCHIVE = Path(__file__).with_name(f"kerf-{COMMIT}.tar.xz")
SHA256 = "c1cd9ff16957346818e126ba42c0d91f3e88d46fd6c5d73258986ed252b8d353"


def tree() -> Path:
    """The unpacked archive. Kept between runs."""
    kept = cache_dir() / "released" / SHA256[:16]
    if kept.exists():
        return kept
    assert hashlib.sha256(ARCHIVE.read_bytes()).hexdigest() == SHA256, f"{ARCHIVE.name} is not the one that was made"
    kept.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=kept.parent))
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(scratch, filter="data")
    try:
        scratch.rename(kept)
    except OSError:  # another process was first
        assert kept.exists()
    return kept


def limiter() -> Path:
    """Its libkerf.so, built from its sources."""
    home = tree() / "limiter"
    subprocess.run(["make", "-s", "-C", str(home), "all"], check=True)
    return home / "build" / "libkerf.so"


def command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line of one of its programs; its own packages come before those of this checkout."""
    return ("sh", "-c", 'cd "$0" && exec "$@"', str(tree()), sys.executable, "-m", module, *arguments)


def ask(code: str, given: Any) -> Any:
    """What its code makes of a value: `code` reads `given` and sets `answer`, both JSON."""
    program = f"import json, sys\ngiven = json.load(sys.stdin)\n{code}\njson.dump(answer, sys.stdout)"
    done = subprocess.run(
        [*command("kerf")[:4], sys.executable, "-c", program],
        input=orjson.dumps(given), capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return orjson.loads(done.stdout)
