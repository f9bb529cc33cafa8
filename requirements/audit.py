"""`make audit`: look up every locked package in the vulnerability database, through pip-audit.

pip-audit exits 0 when the database knows none of the packages, for example behind a mirror that serves only files. This
script then prints "not audited". Exit status: 0 clean or not audited, 1 findings, 2 pip-audit failed.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

UNREACHABLE = ("ConnectionError", "Failed to resolve", "Max retries exceeded", "timed out", "ServiceError")


def main() -> int:
    """`audit.py PIP-AUDIT LOCK`."""
    program, lock = sys.argv[1:]
    command = [program, "--requirement", lock, "--require-hashes", "--disable-pip", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        unreachable = any(word in done.stderr for word in UNREACHABLE)
        print("not audited: the database cannot be reached" if unreachable else done.stderr.strip()[-2000:])
        return 0 if unreachable else 2
    sentences, status = verdict(report)
    print(*sentences, sep="\n")
    return status


def verdict(report: Mapping[str, Any]) -> tuple[list[str], int]:
    """Turn pip-audit's JSON into sentences and the exit status."""
    packages = report.get("dependencies") or []
    audited = [package for package in packages if "vulns" in package]
    found = [(package, vulnerability) for package in audited for vulnerability in package["vulns"]]
    sentences = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in "
        f"{', '.join(vulnerability.get('fix_versions') or ['no version yet'])}"
        for package, vulnerability in found
    ]
    skipped = len(packages) - len(audited)
    if skipped:
        sentences.append(f"not audited: {skipped} of {len(packages)} packages that the database does not know")
    sentences.append(f"{len(audited)} packages audited, {len(found)} vulnerabilities")
    return sentences, int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
