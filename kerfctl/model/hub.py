"""Names of the Hugging Face Hub and the folders of its cache."""

import re
from pathlib import Path

HUB = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|modelscope\.cn/models)/([\w.-]+/[\w.-]+)(?:/.*)?")
CACHED = re.compile(r"models--(?P<owner>.+?)--(?P<name>.+)")


def hub_name(source: str) -> str:
    """OWNER/NAME of an address of a hub; anything else as it is."""
    found = HUB.fullmatch(source)
    return found[1] if found else source


def snapshot_of(folder: Path) -> Path:
    """The snapshot of a cached repository that its branch names, or its only one; any other folder as it is."""
    snapshots = folder / "snapshots"
    if (folder / "config.json").is_file() or not snapshots.is_dir():
        return folder
    try:
        named = snapshots / (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        named = snapshots / "none"
    if named.is_dir() and named != snapshots:
        return named
    found = [path for path in snapshots.iterdir() if path.is_dir()]
    return found[0] if len(found) == 1 else folder


def cached_name(source: str) -> str:
    """NAME of a path in the hub's cache, whose last part is a commit; empty for any other path."""
    parts = Path(source).parts
    names = [found["name"] for part in parts if (found := CACHED.fullmatch(part))]
    return names[-1] if names else ""
