"""Whose a token is, as the API server answers."""

import pytest

from kerf.wire.reviews import User, parse_token_review

KNOWN = {"authenticated": True, "user": {"username": "system:serviceaccount:a:b"}}


@pytest.mark.parametrize(
    ("status", "audience", "known"),
    [
        (KNOWN, "", True),
        ({**KNOWN, "audiences": ["kerf-usage", "other"]}, "kerf-usage", True),
        ({**KNOWN, "audiences": ["other"]}, "kerf-usage", False),
        ({**KNOWN, "audiences": "kerf-usage"}, "kerf-usage", False),
        (KNOWN, "kerf-usage", False),  # an API server that does not look at audiences
        ({**KNOWN, "authenticated": "true"}, "", False),
        ({**KNOWN, "error": "expired"}, "", False),
        ({**KNOWN, "user": {}}, "", False),
    ],
)
def test_a_token_counts_only_where_the_api_server_says_so(status: dict[str, object], audience: str, known: bool):
    expected = User("system:serviceaccount:a:b") if known else None

    assert parse_token_review({"status": status}, audience) == expected
