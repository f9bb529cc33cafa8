"""A small GET of a page in the cluster: bounded in time and size, without redirects or a proxy."""

import http.client
from urllib.parse import urlsplit

LARGEST = 32 << 20


def fetch(url: str, timeout_s: float, headers: dict[str, str] | None = None, largest: int = LARGEST) -> bytes:
    """The page's content. Raises OSError for anything but a 200 of at most `largest` bytes."""
    where = urlsplit(url)
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = kind(where.hostname or "", where.port, timeout=timeout_s)
    try:
        target = (where.path or "/") + (f"?{where.query}" if where.query else "")
        connection.request("GET", target, headers={"User-Agent": "kerf", **(headers or {})})
        answer = connection.getresponse()
        content = answer.read(largest + 1)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{url}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise OSError(f"{url}: answered {answer.status}")
    if len(content) > largest:
        raise OSError(f"{url}: the page is larger than {largest} bytes")
    return content
