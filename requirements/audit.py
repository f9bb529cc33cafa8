"""`make audit`: asks the vulnerability database about every locked package, through pip-audit.

pip-audit exits 0 when the database knows none of the packages, as behind a mirror that serves files alone. That is no
clean bill: it is said as "not audited". Exit status: 0 clean or not audited, 1 findings, 2 pip-audit itself failed.
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
    """What pip-audit's JSON says, in sentences, and the exit status."""
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
        sentences.append(f"not audited: {skipped} of {len(packages)} packages, the database did not know them")
    sentences.append(f"{len(audited)} packages audited, {len(found)} vulnerabilities")
    return sentences, int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
