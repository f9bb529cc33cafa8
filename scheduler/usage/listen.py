"""The doors of the usage server: TLS from files that are read again when they change."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from kerf.wire.errors import WireError


@dataclass(frozen=True, slots=True)
class Files:
    """Of the server's certificate and key, and of the CA of clients."""

    cert: str
    key: str
    client_ca: str = ""


def credentials(files: Files, *, clients: bool = False) -> grpc.ServerCredentials:
    """TLS; with `clients` only for clients whose certificate the CA has signed. Raises WireError."""
    first = _read(files, clients)
    last = [first]

    def newest() -> Any:  # noqa: ANN401 (gRPC takes None, its stubs do not)
        """Called in each handshake; None: nothing has changed. A file that cannot be read changes nothing."""
        try:
            found = _read(files, clients)
        except WireError:
            return None
        if found == last[0]:
            return None
        last[0] = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(_configuration(first), newest, require_client_authentication=clients)


Certificates = tuple[bytes, bytes, bytes | None]


def _configuration(found: Certificates) -> grpc.ServerCertificateConfiguration:
    cert, key, ca = found
    return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=ca)


def _read(files: Files, clients: bool) -> Certificates:
    try:
        ca = Path(files.client_ca).read_bytes() if clients else None
        return Path(files.cert).read_bytes(), Path(files.key).read_bytes(), ca
    except OSError as error:
        raise WireError("--tls-cert, --tls-key, --client-ca", str(error), "name readable PEM files") from error
