"""Use from intervals, and the bill: allocated and idle are the cost of the cards, whatever happened."""

import random
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.metering.bill import Bill, BillLine, bill
from kerf.metering.book import Book
from kerf.metering.charge import charge
from kerf.metering.use import CardTime, Held, Kind, MeteredCard, Use, Who, micro
from kerf.pricing.prices import PriceList, PriceRow
from kerf.values.supply import Supply
from kerf.values.usage import HOUR_MS, TokenPrice, hour_of
from kerf.wire.usage import parse_usage, render_usage
from tests.kerf.metering.histories import CARDS, H100, L4, START, a_card, a_hold, holds

END = START + HOUR_MS


def counted(*held: Held, cards: dict[str, MeteredCard] | None = None) -> dict[str, Decimal]:
    """Seconds of whole cards by workload, over one hour."""
    found = charge(cards or {"GPU-0": a_card()}, held, START, END)
    return {who.workload: Decimal(use.vgpu_us) / 10**6 for (who, _), use in found.lines.items()}


def test_four_pods_of_a_quarter_for_an_hour_are_one_gpu_hour() -> None:
    found = charge({"GPU-0": a_card()}, [a_hold(name) for name in "abcd"], START, END)
    who = Who("team", "ns", "Deployment/a", "m")

    assert found.lines[who, H100] == Use(900 * 10**6, 20_000 * HOUR_MS, 0, 900 * 10**6 * 2_000_000)
    assert sum(use.vgpu_us for use in found.lines.values()) == 3600 * 10**6
    assert found.cards == {H100: CardTime(3600 * 10**6, 3600 * 10**6 * 2_000_000)}


def test_the_greater_share_counts() -> None:
    assert counted(a_hold("mem", mib=40_000, cores=10)) == {"Deployment/mem": 1800}
    assert counted(a_hold("cores", mib=8_000, cores=75)) == {"Deployment/cores": 2700}
    assert counted(a_hold("whole", mib=0, cores=100)) == {"Deployment/whole": 3600}


def test_shares_beyond_one_card_are_divided_by_their_sum_and_only_while_they_are() -> None:
    # mem: 80 % of the memory, cores: 80 % of the cores; together 160 %, each gets half while both are there
    found = counted(a_hold("mem", mib=64_000), a_hold("cores", mib=0, cores=80, start=1_800_000))

    assert found == {"Deployment/mem": Decimal(2340), "Deployment/cores": 900}  # 0.8 * 1800 + 0.5 * 1800


def test_a_pod_counts_from_bind_to_release_and_within_the_window() -> None:
    assert counted(a_hold("a", start=-600_000, end=900_000)) == {"Deployment/a": 225}
    assert counted(a_hold("a", start=3_600_000, end=7_200_000)) == {}
    assert counted(a_hold("a", start=5, end=5)) == {}


def test_a_pod_on_two_cards_counts_on_both() -> None:
    hold = a_hold("a")
    both = replace(hold, uses={**hold.uses, "GPU-1": hold.uses["GPU-0"]})

    assert counted(both, cards={"GPU-0": a_card(), "GPU-1": a_card(1, L4, memory_mib=20_000)}) == {"Deployment/a": 3600}


def test_a_card_that_nothing_describes_is_named_and_costs_nobody_anything() -> None:
    found = charge({}, [a_hold("a")], START, END)

    assert (found.lines, found.cards, found.unknown) == ({}, {}, ("GPU-0",))


@given(CARDS, holds())
def test_what_is_allocated_never_exceeds_a_card(cards: dict[str, MeteredCard], held: list[Held]) -> None:
    for card in cards.values():
        found = charge({card.id: card}, held, START, START + 10_000_000)
        assert sum(use.vgpu_us for use in found.lines.values()) <= found.cards[card.kind].us
        assert sum(use.cost for use in found.lines.values()) <= found.cards[card.kind].cost


def written_and_read(book: Book, now: int) -> list[object]:
    return [parse_usage(render_usage(record)) for record in book.records(now)]


@given(CARDS, holds(), st.lists(st.integers(1, 4_000_000), max_size=8), st.integers(0, 2**32))
def test_allocated_and_idle_are_the_node_cost_over_restarts_torn_writes_and_clocks_that_step(
    cards: dict[str, MeteredCard], held: list[Held], steps: list[int], seed: int
) -> None:
    """A leader counts in rounds; others take over from what is stored, of which the last round may be torn."""
    chance = random.Random(seed)
    book, now = Book("c", "USD"), START
    book.advance(cards, held, now)
    stored = {record.name: record for record in written_and_read(book, 0)}
    for step in steps:
        now += chance.choice((step, step, -step))  # the clock of the next leader may be behind
        book.advance(cards, held, now)
        fresh = written_and_read(book, 0)
        torn = chance.randrange(len(fresh) + 1)
        stored |= {record.name: record for record in fresh[:torn]}  # those of the cards are written last
        if chance.random() < 0.5:
            book = Book.taken_over(stored.values(), "c", "USD")
    latest = max(record.until_ms for record in stored.values())
    book.advance(cards, held, now := max(now, book.until_ms, latest))  # in the end time passes
    found = bill(written_and_read(book, now + 10 * HOUR_MS))

    assert found.allocated + found.idle_cost == found.node_cost
    assert found.idle_cost >= 0
    elapsed = Decimal(book.until_ms - START) / HOUR_MS
    truth = sum((Decimal(card.per_hour) / 10**6 * elapsed for card in cards.values()), Decimal(0))
    assert abs(found.node_cost - truth) <= Decimal("0.01")


@given(CARDS, holds(), st.lists(st.integers(1, 3_000_000), min_size=1, max_size=8))
def test_restarts_lose_and_double_nothing(cards: dict[str, MeteredCard], held: list[Held], steps: list[int]) -> None:
    """However a history is cut into rounds and leaders, each line is what one look at the whole would count."""
    book, now = Book("c", "USD"), START
    book.advance(cards, held, now)
    for step in steps:
        now += step
        book.advance(cards, held, now)
        book = Book.taken_over(written_and_read(book, 0), "c", "USD")
    cut = {line.key: line for line in bill(written_and_read(book, 0)).lines}

    known = Book("c", "USD")
    known.advance(cards, held, START)
    known.advance(cards, held, now)
    whole = {line.key: line for line in bill(written_and_read(known, 0)).lines}
    assert cut.keys() == whole.keys()
    for key, line in whole.items():
        assert cut[key].mib_seconds == line.mib_seconds
        assert abs(cut[key].vgpu_seconds - line.vgpu_seconds) < Decimal("0.0001")
        assert abs(cut[key].cost - line.cost) < Decimal("0.0001")


def test_a_bill_sums_by_what_is_asked_and_idle_stays_the_same() -> None:
    book = Book("west", "USD")
    cards = {"GPU-0": a_card()}
    book.advance(cards, [], START)
    book.advance(cards, [a_hold("a"), a_hold("b", end=1_800_000)], START + HOUR_MS)
    records = list(book.records(0))

    whole = bill(records)
    assert [line.cost for line in whole.lines] == [Decimal("0.5"), Decimal("0.25")]
    assert bill(records, ["tenant"]) == Bill(
        (BillLine("team", "", "", "", "", "", Decimal(1350), Decimal(108_000_000), Decimal(0), Decimal("0.75")),),
        Decimal("1.25"),
        Decimal(2),
        "USD",
    )


def test_other_prices_change_costs_and_never_the_balance() -> None:
    book = Book("west", "USD")
    cards = {"GPU-0": a_card(), "GPU-1": a_card(1, L4)}
    book.advance(cards, [], START)
    book.advance(cards, [a_hold("a"), a_hold("b", card="GPU-1")], START + HOUR_MS)
    rows = (PriceRow("H100", Supply.OWNED, Decimal("3.333333"), "me", "2026-01-01"),)

    found = bill(book.records(0), ["class"], PriceList("EUR", rows))

    assert [(line.card_class, line.cost) for line in found.lines] == [
        ("nvidia-h100", Decimal("0.833333")),
        ("nvidia-l4", Decimal(0)),
    ]
    assert (found.node_cost, found.idle_cost, found.currency) == (Decimal("3.333333"), Decimal("2.5"), "EUR")
    assert found.notes == ("no row of the price list means nvidia-l4: its cards cost nothing here",)


@pytest.mark.parametrize(("row", "notes"), [("0", 0), (None, 1)])
def test_a_row_that_says_0_is_a_price(row: str | None, notes: int) -> None:
    book = Book("west", "USD")
    book.advance({"GPU-0": a_card(per_hour=0)}, [], START)
    book.advance({"GPU-0": a_card(per_hour=0)}, [], START + HOUR_MS)
    rows = (PriceRow("H100", Supply.OWNED, Decimal(row), "me", "2026-01-01"),) if row else ()

    assert len(bill(book.records(0), ["class"], PriceList("EUR", rows)).notes) == notes
    assert bill(book.records(0)).notes == (
        "cards of nvidia-h100 cost nothing: no row of the leader's price list meant them, or their row says 0",
    )


def test_a_price_in_millionths_is_exact() -> None:
    assert micro(Decimal("3.430900")) == 3_430_900
    assert hour_of(START + 1) == START
    assert Kind("c", "m", "owned") < Kind("c", "m", "rented")


def test_a_price_list_in_another_currency_takes_no_price_over_and_says_which_hour_mixes_them() -> None:
    book = Book("c", "USD")
    book.prices = (TokenPrice("m", Decimal(1), Decimal(1), Decimal(2)),)
    book.advance({"GPU-0": a_card()}, [], START)
    book.advance({"GPU-0": a_card()}, [], START + 60_000)

    same = Book.taken_over(written_and_read(book, 0), "c", "USD")
    other = Book.taken_over(written_and_read(book, 0), "c", "CNY")

    assert (same.prices, same.hours[START].gaps) == (book.prices, [])
    assert other.prices == ()
    assert other.hours[START].gaps == [
        "costs of this hour are amounts in USD at first, in CNY later: compute them again with --prices FILE"
    ]


def test_an_hour_that_is_over_keeps_its_currency_and_the_models_prices_of_it() -> None:
    price = TokenPrice("m", Decimal(1), Decimal(1), Decimal(2))
    book = Book("c", "USD")
    book.prices = (price,)
    cards = {"GPU-0": a_card()}
    book.advance(cards, [], START)
    book.advance(cards, [], START + HOUR_MS)

    other = Book.taken_over(written_and_read(book, 0), "c", "CNY")
    book.change_currency("CNY")
    for found in (other, book):
        found.advance(cards, [], START + HOUR_MS + 60_000)
        records = [record for record in found.records(0) if record.of_cards]
        assert [(record.currency, record.prices, record.gaps) for record in records] == [
            ("USD", (price,), ()),
            ("CNY", (), ()),
        ]


def test_a_bill_of_two_currencies_names_both() -> None:
    records = []
    for hour, currency in ((0, "USD"), (1, "CNY")):
        book = Book("c", currency)
        book.advance({"GPU-0": a_card()}, [], START + hour * HOUR_MS)
        book.advance({"GPU-0": a_card()}, [], START + hour * HOUR_MS + 60_000)
        records += list(book.records(0))
    found = bill(records)

    assert found.currency == "CNY+USD"
    assert found.notes == ("sums mix currencies: CNY, USD; compute them again with --prices FILE",)
