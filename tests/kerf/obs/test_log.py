"""What is logged is one JSON object a line, and never a secret."""

import base64
import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from kerf.http.pki import Authority
from kerf.kube.errors import Forbidden, Invalid
from kerf.obs.log import JsonLines, redact

KEY = Authority().pair.key.decode()
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6a2VyZiJ9.c2lnbmF0dXJl-_x"
STATIC = "e4a1ee8b26704be9b11d24d4a70c9899"
SECRETS = {
    "a private key": KEY,
    "a private key without its end": KEY[:120],
    "a Secret's data": json.dumps({"data": {"tls.key": base64.b64encode(KEY.encode()).decode()}}),
    "a service account's token": f"token {JWT} was refused",
    "a header": f"{{'Authorization': 'Bearer {STATIC}', 'Accept': 'application/json'}}",
    "a basic header": f"authorization: Basic {base64.b64encode(STATIC.encode()).decode()}",
    "a password": f"user=kerf password={STATIC} host=x",
    "a JSON password": json.dumps({"password": STATIC}),
    "a kubeconfig's token": f"access-token: {JWT}",
}
FRAGMENTS = [KEY.splitlines()[1], KEY.splitlines()[1][:20], base64.b64encode(KEY.encode()).decode()[40:80], JWT]
FRAGMENTS += [STATIC, JWT.split(".")[2], base64.b64encode(STATIC.encode()).decode()]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("kerf.under-test")
    logger.addHandler(handler)
    logger.setLevel("DEBUG")
    yield written
    logger.removeHandler(handler)


def raised(secret: str) -> None:
    try:
        raise Forbidden(403, "Forbidden", secret)
    except Forbidden:
        logging.getLogger("kerf.under-test").exception("a call failed")


def chained(secret: str) -> None:
    try:
        try:
            raise ValueError(secret)
        except ValueError as error:
            raise Invalid(422, "Invalid", "no") from error
    except Invalid:
        logging.getLogger("kerf.under-test").exception("a call failed")


WAYS: dict[str, Callable[[str], None]] = {
    "message": lambda secret: logging.getLogger("kerf.under-test").warning(secret.replace("%", "%%")),
    "argument": lambda secret: logging.getLogger("kerf.under-test").warning("refused: %s", Invalid(422, "x", secret)),
    "data": lambda secret: logging.getLogger("kerf.under-test").info("x", extra={"data": {"body": secret}}),
    "nested data": lambda secret: logging.getLogger("kerf.under-test").info(
        "x", extra={"data": {"a": [{"b": secret}]}}
    ),
    "bytes": lambda secret: logging.getLogger("kerf.under-test").info("x", extra={"data": {"a": secret.encode()}}),
    "exception": raised,
    "cause": chained,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_no_secret_reaches_a_line_by_any_way(stream: io.StringIO, secret: str, way: Callable[[str], None]) -> None:
    way(secret)

    line = stream.getvalue()
    assert json.loads(line)["logger"] == "kerf.under-test"
    assert [part for part in FRAGMENTS if part in line.replace("\\n", "\n")] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "pod default/chat needs 24,000 MiB and 30 % of the cores on 1 card",
        "GPU-6f1c2c9e-8a53-4a3e-9d1b-8f7e0f5f4f5e is unhealthy",
        "spec.nodeName: 'node-1': drop it, it bypasses the scheduler",
        "basic checks passed, bearer of news",
        "certificates: issue a certificate",
    ],
)
def test_what_is_no_secret_stays_as_it_was(sentence: str) -> None:
    assert redact(sentence) == sentence


def test_structure_and_numbers_stay(stream: io.StringIO) -> None:
    logging.getLogger("kerf.under-test").info("bound", extra={"data": {"n": 3, "ok": True, "none": None, "l": [1.5]}})

    line = json.loads(stream.getvalue())
    assert {key: line[key] for key in ("level", "message", "n", "ok", "none", "l")} == {
        "level": "info",
        "message": "bound",
        "n": 3,
        "ok": True,
        "none": None,
        "l": [1.5],
    }


@pytest.mark.parametrize(
    "text", ["-----BEGIN PRIVATE KEY-----" * 3000, "eyJ" * 40_000, "bearer " * 20_000, "a" * 10**6]
)
def test_a_line_of_a_megabyte_is_redacted_as_well(text: str) -> None:
    assert redact(f"{text} Bearer {STATIC}").count(STATIC) == 0
