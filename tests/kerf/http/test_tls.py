"""A server's TLS context from files; their rotation is tried on the webhook's process."""

import asyncio
import ssl
from pathlib import Path

import pytest

from kerf.http.pki import Authority
from kerf.http.poster import Poster, PostError
from kerf.http.server import Limits, Request, Response, Server, text
from kerf.http.tls import PeerTls, peer_context, server_context
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


def test_an_authority_of_clients_without_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="certificates need TLS"):
        server_context(None, None, "ca.crt")
    cert, key = Authority().issue("one").write(tmp_path, "one")
    with pytest.raises(WireError, match="--client-ca"):
        server_context(str(cert), str(key), str(tmp_path / "none.crt"))


class Scheduler:
    """A port that takes requests of clients with a certificate alone, and the files of one who has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renew("kerf")

    def renew(self, name: str) -> None:
        """Another authority, and a certificate of it, in the same files."""
        authority = Authority(name)
        authority.pair.write(self.folder, "ca")
        authority.issue(name).write(self.folder, "tls")

    @property
    def files(self) -> tuple[str, str, str]:
        return str(self.folder / "ca.crt"), str(self.folder / "tls.crt"), str(self.folder / "tls.key")

    def peer(self) -> PeerTls:
        return PeerTls(*self.files)

    async def status(self, port: int, tls: ssl.SSLContext) -> int:
        """What a POST of a bind is answered; 0 if the handshake fails."""
        poster = Poster("127.0.0.1", port, tls)
        try:
            return (await poster.post("/bind", {}, b"{}", 5.0)).status
        except PostError:
            return 0
        finally:
            poster.close()

    async def listen(self) -> tuple[Server, int]:
        def answer(_: Request) -> Response:
            return text("bound\n")

        ca, cert, key = self.files
        server = Server({("POST", "/bind"): answer, ("GET", "/readyz"): answer}, Limits(1000), failed, print)
        return server, await server.listen(("127.0.0.1", 0), server_context(cert, key, ca))


def failed(_: str, error: Exception) -> Response:
    raise error


def test_only_a_client_with_a_certificate_may_ask_and_probes_need_none(tmp_path: Path) -> None:
    scheduler = Scheduler(tmp_path / "own")
    stranger = Scheduler(tmp_path / "strange")

    async def run() -> None:
        server, port = await scheduler.listen()
        plain = peer_context(scheduler.files[0])
        strange = peer_context(scheduler.files[0])
        strange.load_cert_chain(*stranger.files[1:])

        assert [await scheduler.status(port, tls) for tls in (scheduler.peer()(), plain, strange)] == [200, 403, 0]

        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=plain)
        writer.write(b"GET /readyz HTTP/1.1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        server.close()

    asyncio.run(run())


def test_both_sides_take_files_that_were_renewed(tmp_path: Path) -> None:
    scheduler = Scheduler(tmp_path)
    peer = scheduler.peer()

    async def run() -> None:
        server, port = await scheduler.listen()
        before = peer()
        assert await scheduler.status(port, before) == 200
        scheduler.renew("the second authority")
        assert await scheduler.status(port, peer()) == 200
        assert peer() is peer()
        assert peer() is not before
        assert await scheduler.status(port, before) == 0
        server.close()

    asyncio.run(run())


def test_a_peers_files_may_come_later_and_broken_ones_keep_the_last(tmp_path: Path) -> None:
    peer = PeerTls(*(str(tmp_path / name) for name in ("ca.crt", "tls.crt", "tls.key")))
    with pytest.raises(ValueError, match="the certificate for the scheduler cannot be read"):
        peer()

    scheduler = Scheduler(tmp_path)
    found = peer()
    Path(scheduler.files[1]).write_text("half")

    assert peer() is found
