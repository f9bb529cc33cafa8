"""`make fuzz`: libFuzzer (through Atheris) against every decoder, a bounded time each.

`python tests/fuzz/fuzz.py [--seconds 20] [NAME …]` runs decoders of `tests/kerf/decoders.py`, each in its own process.
A decoder may raise only WireError; an input may take 5 s and the process 1 GiB. The last line is one JSON object.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLOWEST_S, MEMORY_MIB, LARGEST = 5, 1024, 16_384


def main() -> int:
    """Exit status 0 if it finds nothing, 1 if it finds something, 2 if Atheris is not installed."""
    parser = argparse.ArgumentParser(description="Fuzz Kerf's decoders.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="decoders to try; default: all")
    parser.add_argument("--seconds", type=int, default=20, help="for each decoder")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if args.one:
        fuzz(args.one, args.corpus, args.seconds)
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("Atheris is not installed: pip install atheris (it has wheels for Python 3.11 to 3.13 on Linux)")
        return 2
    from tests.kerf.decoders import DECODERS

    results = {name: run(name, args.seconds, DECODERS[name].seeds) for name in args.names or DECODERS}
    found = [name for name, result in results.items() if result["found"]]
    print(json.dumps({"decoders": len(results), "runs": sum(r["runs"] for r in results.values()), "found": found}))
    return bool(found)


def run(name: str, seconds: int, seeds: tuple[bytes, ...]) -> dict:
    """Fuzz one decoder in a process and print what it finds."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        command = [sys.executable, __file__, "--one", name, "--corpus", corpus, "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=corpus)
        runs = [int(number) for number in re.findall(r"(?:#|Done )(\d+)", done.stderr)]
        crashes = [file.read_bytes() for file in Path(corpus).glob("*-*") if not file.name.startswith("seed")]
        crashes = [crash for crash in crashes if done.returncode]
    print(f"{name:18} {max(runs, default=0):>9,} runs  {'ok' if not done.returncode else 'FOUND'}", flush=True)
    if done.returncode:
        print(done.stdout[-3000:] + done.stderr[-3000:], *(repr(crash[:500]) for crash in crashes[:3]), sep="\n")
    return {"runs": max(runs, default=0), "found": bool(done.returncode)}


def fuzz(name: str, corpus: str, seconds: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["kerf.wire", "kerf.values", "webhook.core"], enable_loader_override=False):
        from kerf.wire.errors import WireError
        from tests.kerf.decoders import DECODERS
    parse = DECODERS[name].parse

    def one(data: bytes) -> None:
        try:
            parse(data)
        except WireError:
            return

    largest = max(LARGEST, *(2 * len(seed) for seed in DECODERS[name].seeds))
    flags = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MEMORY_MIB}"]
    atheris.Setup([sys.argv[0], *flags, f"-max_len={min(largest, 1 << 20)}", corpus], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
