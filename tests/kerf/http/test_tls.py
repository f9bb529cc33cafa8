"""A server's TLS context from two files; their rotation is tried on the webhook's process."""

from pathlib import Path

import pytest

from kerf.http.pki import Authority
from kerf.http.tls import server_context
from kerf.wire.errors import WireError


def test_no_files_mean_plain_http() -> None:
    assert server_context(None, None) is None
    assert server_context("", "") is None


@pytest.mark.parametrize(("cert", "key"), [("tls.crt", None), (None, "tls.key")])
def test_half_a_pair_is_refused(cert: str | None, key: str | None) -> None:
    with pytest.raises(WireError, match="give both files, or neither"):
        server_context(cert, key)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    cert, _ = Authority().issue("one").write(tmp_path, "one")
    _, key = Authority().issue("two").write(tmp_path, "two")

    with pytest.raises(WireError, match=r"name a readable pair \(.*[Mm]ismatch"):
        server_context(str(cert), str(key))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    cert, _ = Authority().issue("one").write(tmp_path, "one")

    with pytest.raises(WireError, match=r"name a readable pair \(.*No such file"):
        server_context(str(cert), str(tmp_path / "none.key"))


def test_a_key_with_a_password_is_refused_without_asking_anybody(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as pem

    cert, key = Authority().issue("one").write(tmp_path, "one")
    private = pem.load_pem_private_key(key.read_bytes(), None)
    locked = pem.BestAvailableEncryption(b"secret")
    key.write_bytes(private.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, locked))

    with pytest.raises(WireError, match="write it without a password"):
        server_context(str(cert), str(key))
