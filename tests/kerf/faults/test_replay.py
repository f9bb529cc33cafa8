"""Kernel logs in every shape that drivers and tools write, replayed."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.faults.replay import replay
from kerf.faults.windows import FaultEvent, events
from kerf.faults.xid import ACTIONS, XIDS, action_in
from kerf.values.fault import Fault, Signal, Verdict

OFF = "GPU has fallen off the bus."
DROP = (
    "NVRM: The NVIDIA GPU 0000:5d:00.0",
    "NVRM: (PCI ID: 10de:26b5) installed in this system has",
    "NVRM: fallen off the bus and is not responding to commands.",
)


def seen(*lines: str, **overrides: Verdict) -> list[tuple[str, int, str, int]]:
    """Card, code, verdict and count of every event."""
    chosen = {int(code.removeprefix("xid")): verdict for code, verdict in overrides.items()}
    return [(event.card, event.code, event.verdict.value, event.count) for event in replay(lines, XIDS, chosen)]


@pytest.mark.parametrize(
    "line",
    [
        f"NVRM: Xid (PCI:0000:5d:00): 79, pid='<unknown>', name=<unknown>, {OFF}",
        f"NVRM: Xid (PCI:0000:5D:00): 79, {OFF}",
        f"NVRM: Xid (0000:5d:00): 79, {OFF}",
        f"NVRM: Xid (PCI:0000:5d:00.0): 79, pid=1234, name=python3, {OFF}",
        f"NVRM: Xid (PCI:00000000:5D:00.0): 79, {OFF}",
        f"NVRM: Xid (005d:00): 79, {OFF}",
        "NVRM: Xid (PCI:0000:5d:00): 79, ",
        f"NVRM: Xid (PCI:0000:5d:00 GPU-I:01 GPU-CI:02): 79, pid=9, name=a, {OFF}",
        f"NVRM: GPU 0000:5d:00.0: {OFF}",
        "NVRM: GPU at 0000:5D:00.0 has fallen off the bus.",
        "NVRM: The NVIDIA GPU 0000:5d:00.0 installed in this system has fallen off the bus and is not responding.",
        r"3,1234,5678901234,-;" + r"\x0a".join(DROP),
        f"3,1234,5678901234,-,caller=T1;NVRM: Xid (PCI:0000:5d:00): 79, {OFF}",
        f"<3>[  100.123456] NVRM: Xid (PCI:0000:5d:00): 79, {OFF}",
        f"[  100.123456][ T4711] NVRM: Xid (PCI:0000:5d:00): 79, {OFF}",
        f"[  100.123456 <    0.000012>] NVRM: Xid (PCI:0000:5d:00): 79, {OFF}",
        f"kern  :err   : [  100.123456] NVRM: Xid (PCI:0000:5d:00): 79, {OFF}",
        f"[Wed Dec 11 13:23:01 2024] NVRM: Xid (PCI:0000:5d:00): 79, {OFF}",
        f"[Dec11 13:23] NVRM: Xid (PCI:0000:5d:00): 79, {OFF}",
        f"2024-12-11T13:23:01,123456+01:00 NVRM: Xid (PCI:0000:5d:00): 79, {OFF}",
        f"2024-12-11T13:23:01.123456Z node-1 kernel: NVRM: Xid (PCI:0000:5d:00): 79, {OFF}",
        f"Dec 11 13:23:01 node-1 kernel: [  100.123456] NVRM: Xid (PCI:0000:5d:00): 79, {OFF}",
        f"Dec  1 13:23:01 node-1 kernel: NVRM: Xid (PCI:0000:5d:00): 79, {OFF}\r\n",
    ],
)
def test_a_card_off_the_bus_is_found_in_every_shape(line: str) -> None:
    assert seen(line) == [("0000:5d:00", 79, "evict", 1)]


@pytest.mark.parametrize(
    "lines",
    [
        [f"[ 1843.308145] {DROP[0]}", *(f"               {line}" for line in DROP[1:])],
        [f"3,{i},1843308145,-;{line}" for i, line in enumerate(DROP)],
        [f"Nov 27 10:00:01 n kernel: {line}" for line in DROP],
        [f"[ 1843.3] {DROP[0]}", "[ 1843.3] pcieport 0000:5c:00.0: AER: error", *(f"[ 1843.4] {d}" for d in DROP[1:])],
    ],
)
def test_a_bus_drop_of_three_lines_is_one_event(lines: list[str]) -> None:
    assert seen(*lines) == [("0000:5d:00", 79, "evict", 1)]


def test_drops_of_two_cards_whose_lines_interleave_are_two_events():
    other = [line.replace("5d", "9b") for line in DROP]

    assert seen(DROP[0], other[0], DROP[1], other[1], DROP[2], other[2]) == [
        ("0000:5d:00", 79, "evict", 1),
        ("0000:9b:00", 79, "evict", 1),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64 610.43.02",
        "NVRM: Xid (PCI:0000:66:00): abc, pid=2280636",
        "NVRM: Xid : 32, pid=2280636",
        "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46 MC TS crumbstore MCTO",
        "NVRM: GPU at PCI:0000:5d:00: GPU-d03a3d26-f2ba-4a7a-b4a3-2a6f36ac0a3d",
        "NVRM: The NVIDIA GPU 0000:5d:00.0 (PCI ID: 10de:1db6)",
        "",
        "\x00\xff",
    ],
)
def test_a_line_that_reports_no_fault_of_a_card_is_passed_over(line: str) -> None:
    assert seen(line) == []


def test_a_message_about_something_else_is_not_taken_for_the_beginning_of_a_drop():
    found = seen(DROP[0], "NVRM: installed in this system is not supported by the driver.", *DROP[1:])

    assert found == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("13, pid=1, name=a, Graphics SM Warp Exception on (GPC 7, TPC 7, SM 0)", "warn"),
        ("31, pid=1, name=a, Ch 00000008, intr 00000000. MMU Fault", "warn"),
        ("43, pid=3188489, name=trigger_xid, channel 0x0b00000a", "ignore"),
        ("45, pid=1, name=a, Ch 00000010", "ignore"),
        ("48, pid='<unknown>', name=<unknown>, An uncorrectable double bit error (DBE) has been detected", "evict"),
        ("63, pid=1896, Row Remapper: New row marked for remapping, reset gpu to activate.", "ignore"),
        ("64, pid='<unknown>', name=<unknown>, Row Remapper: Error", "cordon"),
        ("74, pid='<unknown>', name=<unknown>, NVLink: fatal error detected on link 6", "cordon"),
        ("92, pid=1, High single-bit ECC error rate", "ignore"),
        ("94, pid=7062, Contained: CE User Channel (0x9). RST: No, D-RST: No", "suspect"),
        ("95, pid=7062, Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No", "evict"),
        ("109, pid=1797828, name=pt_main_thread, Ch 00000008, errorString CTX SWITCH TIMEOUT", "warn"),
        ("119, pid=1, name=a, Timeout after 6s of waiting for RPC response from GPU1 GSP!", "cordon"),
        ("145, RLW_SRC_TRACK Nonfatal XC1 i0 Link 12 (0x040988e2 0x00000008)", "warn"),
        ("149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000)", "cordon"),
        ("999, a code of a driver of the future", "warn"),
        ("154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", "evict"),
        ("154, GPU recovery action changed from 0x0 (None) to 0x2 (OS Reboot)", "evict"),
        ("154, GPU recovery action changed from 0x0 (None) to 0x3 (Drain P2P)", "cordon"),
        ("154, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)", "cordon"),
        ("154, GPU recovery action changed from 0x4 (Drain and Reset) to 0x0 (None)", "ignore"),
        ("154, GPU recovery action changed from 0x0 (None) to 0x63 (Sing)", "warn"),
    ],
)
def test_the_verdict_follows_the_code_and_what_the_driver_says(line: str, expected: str) -> None:
    assert [verdict for _, _, verdict, _ in seen(f"NVRM: Xid (PCI:0000:5d:00): {line}")] == [expected]


def test_a_fault_that_names_a_mig_instance_concerns_its_tenant_alone():
    double_bit = "NVRM: Xid (PCI:0000:5d:00{}): 48, pid=1, name=a, double bit"

    assert seen(double_bit.format(" GPU-I:05")) == [("0000:5d:00", 48, "suspect", 1)]
    assert seen(double_bit.format("")) == [("0000:5d:00", 48, "evict", 1)]


def test_the_operators_verdict_replaces_the_tables():
    line = "NVRM: Xid (PCI:0000:5d:00): 109, pid=1, CTX SWITCH TIMEOUT"

    assert seen(line, xid109=Verdict.CORDON) == [("0000:5d:00", 109, "cordon", 1)]


def test_a_burst_is_one_event_with_its_count_and_a_later_burst_is_another():
    lines = [f"[{at}.0] NVRM: Xid (PCI:0000:5d:00): 31, pid=1, MMU Fault" for at in (10, 10, 11, 69, 70, 75, 130)]

    assert seen(*lines) == [("0000:5d:00", 31, "warn", count) for count in (4, 2, 1)]


@pytest.mark.parametrize(
    "form",
    [
        "[Wed Dec 11 13:{}:05 2024 <    0.000012>] ",
        "Wed 2024-12-11 13:{}:05 CET node-1 kernel: ",
        "Wed Dec 11 13:{}:05 2024 node-1 kernel: ",
        "17339{}781.123456 node-1 kernel: ",
        "[1{}.123456] [ T4711] ",
        "  [1{}.123456] ",
        "<3>1 2024-12-11T13:{}:05.003Z node-1 kernel - - - ",
        "\0\0\0Dec 11 13:{}:05 node-1 kernel: ",
        "\ufeff[1{}00.123456] ",
        "\x1b[32m[  1{}00.123456] \x1b[0m\x1b[33m",
    ],
)
def test_the_time_is_read_in_every_form_in_which_tools_write_it(form: str) -> None:
    line = (
        "NVRM: \x1b[0mXid (PCI:0000:5d:00): 31, pid=1, MMU" if "\x1b" in form else "NVRM: Xid (PCI:0000:5d:00): 31, MMU"
    )
    late = "21" if "{}:" in form else "99"

    assert seen(form.format("20") + line, form.format(late) + line) == [("0000:5d:00", 31, "warn", 1)] * 2


def test_the_lines_of_dmesg_as_json_are_records_with_their_times():
    record = '         "time":   {},\n         "msg": "NVRM: Xid (PCI:0000:5d:00): 31, name=\\"a\\", MMU"\n      }},{{'
    text = '{\n   "dmesg": [\n      {\n' + "\n".join(record.format(at) for at in ("100.123456", "190.123456"))

    assert seen(*text.split("\n")) == [("0000:5d:00", 31, "warn", 1)] * 2


def test_a_record_that_goes_on_is_one_sighting():
    first, more = (
        "3,1,100000000,c;NVRM: Xid (PCI:0000:5d:00): 79, pid=",
        "3,2,100000001,+;1234, GPU has fallen off the bus.",
    )

    assert seen(first, more) == [("0000:5d:00", 79, "evict", 1)]


def test_a_program_that_quotes_the_kernel_reports_no_fault():
    line = "NVRM: Xid (PCI:0000:5d:00): 79, x"

    assert seen(f"Dec 11 13:20:01 n node-problem-detector[12]: new: {line}", f"6,1,5,-;agent[1]: {line}") == []


def test_a_line_that_is_late_at_the_turn_of_the_year_is_in_its_window():
    dates = ("Dec 31 23:59:40", "Jan  1 00:00:05", "Dec 31 23:59:58", "Jan  1 00:00:06")
    lines = [f"{date} n kernel: NVRM: Xid (PCI:0000:5d:00): 31, MMU" for date in dates]

    assert seen(*lines) == [("0000:5d:00", 31, "warn", 4)]
    assert seen(*lines[1:]) == [("0000:5d:00", 31, "warn", 3)]


@given(st.integers(0, 10**12))
def test_a_window_ends_after_sixty_seconds_to_the_microsecond(start: int) -> None:
    lines = [
        f"3,1,{at},-;NVRM: Xid (PCI:0000:5d:00): 31, MMU" for at in (start, start + 59_999_999, start + 60_000_000)
    ]

    assert seen(*lines) == [("0000:5d:00", 31, "warn", 2), ("0000:5d:00", 31, "warn", 1)]


def test_sources_that_report_one_fault_in_any_order_agree_on_it():
    both = [f"[10.2] NVRM: GPU 0000:5d:00.0: {OFF}", f"[10.1] NVRM: Xid (PCI:0000:5d:00): 79, {OFF}"]

    assert seen(*both) == [("0000:5d:00", 79, "evict", 1)]


def test_the_same_seconds_of_another_boot_are_another_time():
    line = f"[  10.0] NVRM: Xid (PCI:0000:5d:00): 79, {OFF}"

    assert seen(line, "[    0.000000] Linux version 6.8.0-45-generic", line) == [("0000:5d:00", 79, "evict", 1)] * 2


def test_the_text_is_that_of_the_first_of_the_strongest():
    lines = [
        f"NVRM: Xid (PCI:0000:5d:00): 154, GPU recovery action changed from 0x{a} (x) to 0x{b} (y)"
        for a, b in ((0, 4), (4, 2), (2, 1))
    ]

    assert [(event.text, event.count) for event in replay(lines, XIDS, {})] == [(lines[1], 3)]


def test_dates_without_a_year_go_on_into_the_next():
    lines = [
        f"{date} n kernel: NVRM: Xid (PCI:0000:5d:00): 31, MMU"
        for date in ("Dec 31 23:59:50", "Jan  1 00:00:10", "Jan  1 00:01:00")
    ]

    assert seen(*lines) == [("0000:5d:00", 31, "warn", 2), ("0000:5d:00", 31, "warn", 1)]


def test_every_action_of_the_driver_is_read_by_number_and_by_word():
    named = {1: "GPU Reset Required", 2: "Node Reboot Required", 3: "Drain P2P", 4: "Drain and Reset", 0: "None"}
    text = "GPU recovery action changed from 0x0 (None) to {}"

    assert [action_in(text.format(f"0x{number:x} (?)")) for number in ACTIONS] == list(ACTIONS)
    assert {number: action_in(text.format(f"({word})")) for number, word in named.items()} == {n: n for n in named}


FAULTS = st.builds(
    Fault,
    at=st.floats(0, 300, allow_nan=False),
    card=st.sampled_from(["0000:01:00", "0000:02:00"]),
    code=st.sampled_from([13, 48, 79, 94, 154, 999]),
    signal=st.sampled_from(Signal),
    text=st.sampled_from(["a", "recovery action changed from 0x0 (None) to 0x1 (x)"]),
    instance=st.sampled_from(["", "1"]),
)


@given(st.lists(FAULTS, max_size=30, unique_by=lambda fault: fault.at), st.randoms())
def test_events_do_not_depend_on_the_order_of_the_sources(faults: list[Fault], random) -> None:
    mixed = list(faults)
    random.shuffle(mixed)

    assert events(mixed, XIDS, {}) == events(faults, XIDS, {})


@given(st.lists(FAULTS, max_size=30))
def test_every_fault_is_in_one_event_and_no_two_events_of_a_code_are_within_a_minute(faults: list[Fault]) -> None:
    found = events(faults, XIDS, {})
    starts: dict[tuple[str, int], list[float]] = {}
    for event in found:
        starts.setdefault((event.card, event.code), []).append(event.at)

    assert {(f.card, f.code) for f in faults} == set(starts)
    assert all(b - a >= 60 for times in starts.values() for a, b in pairwise(times))
    assert sum(event.count for event in found) <= len(faults)


@given(st.integers(0, 2000), st.text(max_size=40))
def test_a_code_that_is_not_known_never_moves_anything(code: int, text: str) -> None:
    fault = Fault(0, "0000:01:00", code, Signal.KERNEL, text)
    (event,) = events([fault], XIDS, {})

    assert code in XIDS.codes or event == FaultEvent("0000:01:00", code, Verdict.WARN, 1, text, 0)


def test_several_faults_on_one_line_are_events_of_their_own():
    first = f"NVRM: Xid (PCI:0000:5d:00): 79, pid=1, {OFF}"

    assert seen(
        f"[1.0] {first} NVRM: Xid (PCI:0000:5E:00): 48, pid=2NVRM: GPU at 0000:9b:00.0 has fallen off the bus."
    ) == [
        ("0000:5d:00", 79, "evict", 1),
        ("0000:5e:00", 48, "evict", 1),
        ("0000:9b:00", 79, "evict", 1),
    ]


@pytest.mark.parametrize(
    "line",
    [
        'audit: type=1400 apparmor="DENIED" operation="open" name="/tmp/NVRM:Xid(PCI:0000:5e:00):79," comm="cat"',
        "overlayfs: failed to resolve /NVRM: GPU at 0000:5e:00 has fallen off the bus.",
        'time="2026-11-28" level=info msg="NVRM: Xid (PCI:0000:5e:00): 79, GPU has fallen off the bus"',
    ],
)
def test_what_a_line_only_quotes_is_no_fault(line: str) -> None:
    assert seen(f"[1.0] {line}", f"6,1,1000000,-;{line}") == []


def test_a_drop_is_found_where_only_its_first_line_names_the_module():
    bare = [line.removeprefix("NVRM: ") for line in DROP[1:]]

    assert seen(f"[1.0] {DROP[0]}", *(f"[1.0] {line}" for line in bare)) == [("0000:5d:00", 79, "evict", 1)]
    assert seen(*(f"[1.0] {line}" for line in bare)) == []


def test_equal_messages_that_syslog_counted_are_counted():
    xid = "NVRM: Xid (PCI:0000:5d:00): 31, pid=1, MMU Fault"
    lines = [
        f"Nov 23 10:00:00 n kernel: {xid}",
        f"Nov 23 10:00:05 n kernel: message repeated 4 times: [ {xid}]",
        "Nov 23 10:00:09 n last message repeated 3 times",
    ]

    assert seen(*lines) == [("0000:5d:00", 31, "warn", 8)]


def entry(second: int, **members: object) -> str:
    stamp = {"__REALTIME_TIMESTAMP": f"{1_795_000_000 + second}000000", "_TRANSPORT": "kernel"}
    return json.dumps(stamp | {"MESSAGE": "NVRM: Xid (PCI:0000:5d:00): 31, pid=1"} | members)


def test_the_journals_objects_have_their_own_times_and_sources():
    quoted = entry(3, _TRANSPORT="syslog")
    as_bytes = entry(2, MESSAGE=[*b"NVRM: Xid (PCI:0000:5d:00): 31, \xff"])

    assert seen(entry(0), quoted, as_bytes, entry(60)) == [("0000:5d:00", 31, "warn", 2), ("0000:5d:00", 31, "warn", 1)]


@pytest.mark.parametrize("form", ["{}={}", '\t"{}" : "{}",'])
def test_the_journals_members_a_line_each_have_their_times(form: str) -> None:
    moments = [1_795_000_000_000_000, 1_795_000_060_000_000]
    message = form.format("MESSAGE", "NVRM: Xid (PCI:0000:5d:00): 31, pid=1")

    lines = [line for at in moments for line in (form.format("__REALTIME_TIMESTAMP", at), message)]

    assert seen(*lines) == [("0000:5d:00", 31, "warn", 1)] * 2
