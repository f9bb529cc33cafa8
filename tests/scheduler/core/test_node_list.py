"""Lists of names as numbers: what is read and written is what plain JSON would say."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.node_list import MOST_SCORE, NodeList, Roster, take

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,30}[a-z0-9])?", fullmatch=True)
LISTS = st.lists(NAMES, max_size=30, unique=True)


def text_of(names: list[str]) -> bytes:
    return json.dumps(names, separators=(",", ":")).encode()


@given(LISTS, LISTS)
def test_a_list_is_read_whatever_was_read_before(first, second):
    roster = Roster()
    for names in (first, second, first):
        read = roster.read(text_of(names))
        assert read == names
        assert read.text == text_of(names)


@given(LISTS, st.randoms(use_true_random=False))
def test_a_part_of_a_list_is_written_as_json(names, random):
    read = Roster().read(text_of(names))
    places = np.array(sorted(random.sample(range(len(names)), random.randint(0, len(names)))), np.int64)
    part = take(read, places)

    assert json.loads(part.text) == list(part) == take(names, places)
    assert [part.index(name) for name in part] == list(range(len(part)))
    assert all((name in part) == (name in list(part)) for name in [*names, "never seen"])


@given(LISTS)
def test_names_that_are_added_one_by_one_are_a_list_as_well(names):
    roster = Roster()
    listed = NodeList(roster, np.array([roster.add(name) for name in names], np.int64))

    assert listed == names
    assert listed.text == text_of(names)
    assert [roster.add(name) for name in names] == list(range(len(names)))


@given(LISTS, st.text(max_size=20))
def test_names_with_one_value_are_members_of_an_object(names, value):
    read = Roster().read(text_of(names))

    assert json.loads(b"{%s}" % read.roster.entries(read.numbers, value)) == dict.fromkeys(names, value)


@given(st.lists(st.tuples(NAMES, st.integers(0, MOST_SCORE)), max_size=30, unique_by=lambda pair: pair[0]))
def test_scores_are_kube_schedulers_list(pairs):
    read = Roster().read(text_of([name for name, _ in pairs]))
    scores = np.array([score for _, score in pairs], np.int64)

    assert json.loads(read.roster.scored(read.numbers, scores)) == [{"Host": n, "Score": s} for n, s in pairs]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'["a", "b"]',
        b'["a","b"',
        b'["a",1]',
        b'["a\\u0062"]',
        b'["a","b\\"c"]',
        b'[""]',
        b'["","a"]',
        b"[[]]",
    ],
)
def test_what_is_not_a_list_of_plain_names_is_left_to_the_decoder(text):
    assert Roster().read(text) is None


PIECES = st.sampled_from(
    [b"a", b"node-1", b'","', b'", "', b'"', b",", b"\\", b"\\u0062", b"\n", b"\xc3\xa9", b"\xff", b"[", b"]"]
)


@given(st.lists(PIECES, max_size=8).map(b"".join) | st.binary(max_size=20))
def test_whatever_is_read_is_what_json_says(text):
    whole = b'["a' + text + b'b"]'
    read = Roster().read(whole)

    assert read is None or json.loads(whole) == list(read)


def test_lists_are_slices_and_values():
    read = Roster().read(b'["a","b","c"]')

    assert (list(read[1:]), read[0], len(read)) == (["b", "c"], "a", 3)
    assert read == NodeList(read.roster, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="z"):
        read.index("z")
