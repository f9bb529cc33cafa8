"""Simulated limits of memory: what a driver keeps for a cgroup, in a file in it, so that they go when it is removed."""

import json
from pathlib import Path

from kerf.probes.base import LimitError

FILE = "simulated.limits"


class SimulatedLimits:
    """A `kerf.probes.base.LimitDriver` over directories. A file `refuses` in one makes the driver refuse its limits."""

    def limit(self, card: str, cgroup: str, bytes_: int) -> None:
        place = Path(cgroup)
        try:
            refused = (place / "refuses").exists()
            if refused or not place.is_dir():
                raise LimitError(f"cannot limit the memory of cgroup {place.name}: the driver does not support it")
            (place / FILE).write_text(json.dumps(self._all(cgroup) | {card: bytes_}), encoding="utf-8")
        except OSError as error:
            raise LimitError(f"cannot limit the memory of cgroup {place.name}: {error}") from error

    def limit_of(self, card: str, cgroup: str) -> int | None:
        found = self._all(cgroup).get(card)
        return int(found) if found is not None else None

    @staticmethod
    def _all(cgroup: str) -> dict[str, int]:
        try:
            found = json.loads((Path(cgroup) / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise LimitError(f"cannot read the limit of cgroup {Path(cgroup).name}: {error}") from error
        return found if isinstance(found, dict) else {}
