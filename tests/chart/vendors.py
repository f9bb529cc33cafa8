"""What the chart knows of vendors: ``python -m tests.chart.vendors`` writes it again from the vendors themselves."""

import json
import sys

from kerf.vendors.registry import VENDORS
from tests.chart.helm import CHART

FILE = CHART / "files" / "vendors.json"


def text_of() -> str:
    """By Kerf's name for the vendor: words, what kube-scheduler counts, and what the vendor's own plugin needs."""
    known = {}
    for vendor in VENDORS:
        words, plugin = vendor.words, vendor.plugin
        entry: dict[str, object] = {
            "resourceName": words.count,
            "resourceMem": words.memory,
            "resourceMemPercentage": words.memory_percent,
            "resourceCores": words.cores,
            "resourcePriority": words.priority,
        }
        entry |= {"others": list(words.others), "openEnv": words.open_env, "mpsEnv": dict(vendor.mps_env)}
        if plugin:
            entry |= {"ownPlugin": True, "annotations": sorted(plugin.writes), "lock": plugin.lock}
            entry |= {"fixed": sorted(plugin.obeys)}
        known[vendor.name] = {key: value for key, value in entry.items() if value}
    return json.dumps(known, indent=1) + "\n"


def main() -> int:
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text_of())
    return 0


if __name__ == "__main__":
    sys.exit(main())
