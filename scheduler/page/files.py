"""The page's static files, read once, and the headers that keep them and what they show among themselves."""

import hashlib
from importlib.resources import files

from kerf.http.server import Handler, Request, Response, text

KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
SAFE = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
)
"""For every answer."""
PRIVATE = (*SAFE, ("Cache-Control", "no-store"))
"""For answers about somebody."""


def static_routes() -> dict[tuple[str, str], Handler]:
    """A handler for each file; `/` is the page itself."""
    found: dict[tuple[str, str], Handler] = {}
    for file in (files("scheduler.page") / "static").iterdir():
        ending = file.name.rpartition(".")[2]
        if ending in KINDS:
            handler = _serving(file.read_bytes(), KINDS[ending])
            found["GET", f"/{file.name}"] = handler
            if file.name == "index.html":
                found["GET", "/"] = handler
    return found


def _serving(content: bytes, kind: str) -> Handler:
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = (*SAFE, ("Cache-Control", "no-cache"), ("ETag", tag))

    def serve(request: Request) -> Response:
        if request.head.headers.get("if-none-match") == tag:
            return Response(b"", 304, kind, headers)
        return Response(content, 200, kind, headers)

    return serve


def refused(words: str, status: int, *headers: tuple[str, str]) -> Response:
    """An error in words."""
    return text(f"{words}\n", status, (*PRIVATE, *headers))
