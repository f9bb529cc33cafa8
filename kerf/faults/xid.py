"""NVIDIA's Xid codes, and what Kerf makes of each. Data: the policy overrides any row (`spec.recovery.codes`).

The names and the advice (column "Resolution Bucket, Immediate Action") are those of NVIDIA's public Xid catalogue for
Ampere and newer. The verdict is Kerf's own, by one rule for each advice:

- IGNORE is `ignore`. RESTART_APP is `warn`: a program failed, which the tenant has to know, and the card is well.
- RESET_GPU and RESTART_BM are `evict` where what runs on the card is lost or wrong (48, 79, 95 and their like).
- Otherwise RESET_GPU is `cordon`: what runs may run on, and a driver that needs the card free says so by itself, with
  Xid 154 and its recovery action, which is then followed.

Rows that differ from that rule say why.
"""

import re
from collections.abc import Mapping

from kerf.values.fault import Code, Fault, FaultTable, Verdict
from kerf.values.recovery import Remedy

SOURCE = "https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html"
DATE = "2025-10-29"
OFF_THE_BUS = 79
DOUBLE_BIT = 48
ACTION_CHANGED = 154
_IGNORE, _WARN, _SUSPECT, _CORDON, _EVICT = Verdict

_ROWS: tuple[tuple[int, str, Verdict, str], ...] = (
    (8, "GPU stopped processing", _WARN, "RESTART_APP"),
    (11, "invalid or corrupted push buffer stream", _WARN, "RESTART_APP"),
    (13, "graphics engine exception", _WARN, "RESTART_APP"),
    (14, "unused", _IGNORE, "IGNORE"),
    (25, "invalid or illegal push buffer stream", _WARN, "RESTART_APP"),
    (31, "GPU memory page fault", _WARN, "RESTART_APP"),
    (32, "invalid or corrupted push buffer stream", _WARN, "RESTART_APP"),
    (37, "driver firmware error", _IGNORE, "IGNORE"),
    (38, "driver firmware error", _IGNORE, "IGNORE"),
    (43, "GPU stopped processing", _IGNORE, "IGNORE"),
    (44, "graphics engine fault during context switch", _IGNORE, "IGNORE"),
    # Follows another error, or a killed process: the other error decides.
    (45, "preemptive cleanup after earlier errors", _IGNORE, "WORKFLOW_XID_45"),
    (46, "GPU stopped processing", _CORDON, "RESET_GPU"),
    # The workflow ends in a reset; until then results are wrong.
    (48, "double-bit ECC error", _EVICT, "WORKFLOW_XID_48"),
    # No fault of a tenant, and no reason to move one: the board may be slow.
    (54, "auxiliary power is not connected", _SUSPECT, "CHECK_MECHANICALS"),
    (60, "video processor exception", _WARN, "RESTART_APP"),
    (62, "internal micro-controller halt", _CORDON, "RESET_GPU"),
    (63, "row remapping event", _IGNORE, "IGNORE"),
    (64, "row remapping failure", _CORDON, "RESET_GPU"),
    (66, "illegal access by driver", _IGNORE, "IGNORE"),
    (67, "illegal access by driver", _IGNORE, "IGNORE"),
    (69, "graphics engine class error", _WARN, "RESTART_APP"),
    # The link is in doubt, and slices of one card do not use it.
    (74, "NVLink error", _CORDON, "WORKFLOW_NVLINK_ERR"),
    (78, "vGPU start error", _WARN, "UPDATE_SWFW"),
    (79, "GPU has fallen off the bus", _EVICT, "RESTART_BM"),
    (80, "corrupted data sent to GPU", _WARN, "RESTART_APP"),
    (92, "high single-bit ECC error rate", _IGNORE, "IGNORE"),
    (93, "InfoROM wear limit exceeded", _IGNORE, "IGNORE"),
    # The driver ended the process that the error hit; nothing else is concerned. The card is watched.
    (94, "contained memory error", _SUSPECT, "RESTART_APP"),
    (95, "uncontained memory error", _EVICT, "RESET_GPU"),
    (106, "SMBPBI test message", _IGNORE, "IGNORE"),
    (107, "SMBPBI test message, silent", _IGNORE, "IGNORE"),
    (108, "unused", _IGNORE, "IGNORE"),
    # Load alone can cause it where tenants share a card, and tools disagree: override it where cards are whole.
    (109, "context switch timeout", _WARN, "RESET_GPU"),
    (110, "security fault", _CORDON, "RESET_GPU"),
    (119, "GSP RPC timeout", _CORDON, "RESET_GPU"),
    (120, "GSP error", _CORDON, "RESET_GPU"),
    (121, "C2C error", _IGNORE, "IGNORE"),
    (136, "link training failed", _CORDON, "RESET_GPU"),
    (137, "NVLink privilege error", _IGNORE, "IGNORE"),
    (140, "unrecovered ECC error", _EVICT, "RESET_GPU"),
    (141, "CUDA fast path error", _IGNORE, "IGNORE"),
    (142, "NVENC3 error", _WARN, "CONTACT_SUPPORT"),
    (143, "GPU initialisation error", _EVICT, "RESET_GPU"),
    (151, "key rotation error", _CORDON, "RESTART_VM"),
    (152, "DLA SMMU error", _IGNORE, "IGNORE"),
    (153, "DLA timeout", _IGNORE, "IGNORE"),
    # Its text names the action; without one it is only a report.
    (154, "GPU recovery action changed", _WARN, "XID_154"),
    (155, "NVLink software-defined error", _CORDON, "RESET_GPU"),
    (156, "resource retirement event", _CORDON, "RESET_GPU"),
    (157, "resource retirement failure", _IGNORE, "IGNORE"),
    (158, "GPU fatal timeout", _EVICT, "RESET_GPU"),
    (159, "CHI non-data error", _WARN, "CHECK_UVM"),
    (160, "channel retirement event", _IGNORE, "IGNORE"),
    (161, "channel retirement failure", _IGNORE, "IGNORE"),
    # The catalogue names no action for those below.
    (162, "power smoothing re-engaged", _IGNORE, ""),
    (163, "power smoothing disengaged", _WARN, ""),
    (164, "power smoothing: low lifetime", _WARN, ""),
    (165, "power smoothing: lifetime exhausted", _WARN, ""),
    (166, "traffic before the link was encrypted", _WARN, ""),
    (167, "PCIe fatal timeout", _EVICT, ""),
    (168, "reduced GPU memory capacity", _SUSPECT, ""),
    (169, "internal micro-controller halt (SEC2)", _CORDON, ""),
    (170, "interrupt in confidential-computing mode", _WARN, ""),
    # More about an Xid 48, which comes as well.
    (171, "uncorrectable DRAM error", _WARN, ""),
    (172, "uncorrectable SRAM error", _WARN, ""),
)
_ENGINES: Mapping[str, tuple[int, ...]] = {
    "copy engine exception": (39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136)),
    "video decoder exception": (68, 83, 84, 88, 89, 96, 97, 98),
    "JPEG engine error": (82, *range(99, 106)),
    "optical flow engine error": (86, 139),
}
"""Errors of engines that a program drives: RESTART_APP, all of them."""
_NVLINK5 = {
    144: "SAW", 145: "RLW", 146: "TLW", 147: "TREX", 148: "NVLPW_CTRL", 149: "NETIR", 150: "MSE",
}  # fmt: skip
_ONE_INSTANCE = frozenset({46, 48, 64, 109, 110, 140, 171, 172})
"""A MIG instance has memory and engines of its own, so these concern it alone where they name one."""

_TO = re.compile(r"recovery action changed from .*? to (?:0x([0-9a-f]+)\b)?\s*(?:\(([^)]*)\))?", re.IGNORECASE)
ACTIONS: Mapping[int, tuple[str, Verdict]] = {
    0: ("none", _IGNORE),
    1: ("reset the card", _EVICT),
    2: ("reboot the node", _EVICT),
    3: ("drain peer-to-peer traffic", _CORDON),
    4: ("drain and reset: existing work may run to its end", _CORDON),
    5: ("recover the IMEX domain", _CORDON),
    6: ("reset the PCIe bus", _EVICT),
    7: ("reboot the system", _EVICT),
}
"""What NVML's recovery action (field 230) and Xid 154 ask for, and what that means for the card."""
_REBOOTS = frozenset({2, 7})
_WORDS = (
    ("none", 0), ("drain and reset", 4), ("p2p", 3), ("imex", 5), ("bus", 6), ("reboot", 2), ("reset", 1), ("flr", 1),
)  # fmt: skip
"""Words of the action, for a text without its number; the first that occurs counts."""


def action_in(text: str) -> int | None:
    """The action that the text of an Xid 154 changes to; None where it names none that is known."""
    found = _TO.search(text)
    if found is None:
        return None
    number, words = found.groups()
    if number is not None and len(number) < 4:
        return int(number, 16) if int(number, 16) in ACTIONS else None
    return next((action for word, action in _WORDS if word in (words or "").lower()), None)


def _by_text(fault: Fault) -> Verdict | None:
    if fault.code == ACTION_CHANGED:
        action = action_in(fault.text)
        return None if action is None else ACTIONS[action][1]
    if fault.code in _NVLINK5 and re.search(r"\bnon-?fatal\b", fault.text, re.IGNORECASE):
        return _WARN
    return None


def _table() -> dict[int, Code]:
    codes = {code: Code(name, verdict, advice, code in _ONE_INSTANCE) for code, name, verdict, advice in _ROWS}
    codes |= {code: Code(name, _WARN, "RESTART_APP") for name, some in _ENGINES.items() for code in some}
    codes |= {code: Code(f"NVLink error ({unit})", _CORDON, "WORKFLOW_NVLINK5_ERR") for code, unit in _NVLINK5.items()}
    return dict(sorted(codes.items()))


def _more(fault: Fault) -> str:
    action = action_in(fault.text) if fault.code == ACTION_CHANGED else None
    return "" if action is None else f"the driver asks: {ACTIONS[action][0]}"


_CODES = _table()
_REMEDIES: Mapping[str, Remedy] = {
    "RESET_GPU": Remedy.RESET_CARD,
    "WORKFLOW_XID_48": Remedy.RESET_CARD,
    "WORKFLOW_NVLINK_ERR": Remedy.RESET_CARD,
    "WORKFLOW_NVLINK5_ERR": Remedy.RESET_CARD,
    "RESTART_BM": Remedy.REBOOT_NODE,
    "RESTART_VM": Remedy.REBOOT_NODE,
    "CHECK_MECHANICALS": Remedy.REPAIR_CARD,
    "CONTACT_SUPPORT": Remedy.REPAIR_CARD,
}


def _remedy(fault: Fault) -> str:
    """As the driver asks with an action, else as the catalogue advises."""
    if fault.code == ACTION_CHANGED:
        action = action_in(fault.text)
        return "" if not action else Remedy.REBOOT_NODE if action in _REBOOTS else Remedy.RESET_CARD
    known = _CODES.get(fault.code)
    return _REMEDIES.get(known.advice, "") if known else ""


XIDS = FaultTable(_CODES, SOURCE, DATE, _by_text, "XID", _remedy, _more)
