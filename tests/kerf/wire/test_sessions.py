"""Sessions: what a key has signed is believed until it ends, and nothing else is."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.wire.errors import WireError
from kerf.wire.reviews import User
from kerf.wire.sessions import Session, parse_session, render_session, token_ends

KEY, OTHER = b"k" * 32, b"o" * 32
texts = st.text(max_size=12)
users = st.builds(
    User,
    texts.filter(bool),
    texts,
    st.lists(texts, max_size=4).map(tuple),
    st.dictionaries(texts, st.lists(texts, max_size=2).map(tuple), max_size=2).map(
        lambda found: tuple(sorted(found.items()))
    ),
)


@given(users)
def test_a_session_is_read_as_it_was_written_with_the_present_key_and_the_one_before(user: User):
    session = Session(user, 100)
    text = render_session(session, KEY)

    assert parse_session(text, (KEY,), 99.0) == parse_session(text, (OTHER, KEY), 99.0) == session
    assert text.replace("_", "").replace("-", "").replace(".", "").isalnum()


@pytest.mark.parametrize(("keys", "now"), [((OTHER,), 1.0), ((), 1.0), ((KEY,), 100.0), ((KEY,), 101.0)])
def test_a_session_of_another_key_or_one_that_has_ended_is_none(keys: tuple[bytes, ...], now: float):
    assert parse_session(render_session(Session(User("ada"), 100), KEY), keys, now) is None


@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_a_session_of_which_one_character_is_changed_is_none(place: int, char: str):
    text = render_session(Session(User("ada", "1", ("a", "b")), 100), KEY)
    place %= len(text)

    assert text[place] == char or parse_session(f"{text[:place]}{char}{text[place + 1 :]}", (KEY,), 1.0) is None


def test_somebody_in_too_many_groups_for_a_cookie_gets_a_clear_error():
    groups = tuple(base64.b64encode(bytes([n % 251, n * 7 % 253, n // 3 % 255] * 9)).decode() for n in range(2000))

    with pytest.raises(WireError, match="fewer groups"):
        render_session(Session(User("ada", "", groups), 100), KEY)


def _jwt(payload: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b'=').decode()}.sig"


@pytest.mark.parametrize(
    ("token", "end"),
    [
        (_jwt({"exp": 1700}), 1700),
        (_jwt({"exp": "x"}), None),
        (_jwt({}), None),
        ("opaque", None),
        ("a.%.c", None),
        (_jwt([]), None),
    ],
)
def test_a_token_ends_when_it_says_itself(token: str, end: int | None):
    assert token_ends(token) == end
