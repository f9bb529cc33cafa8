"""What can go wrong between Kerf and the API server; the client library's own exceptions never leave `kerf.kube`.

KubeError
├── NotFound      404
├── Conflict      409: the object changed, or exists already
├── Gone          410: the watch's resourceVersion is too old, list again
├── Forbidden     401, 403
├── Invalid       400, 413, 415, 422
├── Busy          429, 5xx: the server answered and could not; try again
├── Withheld      not asked: the right to act had ended, nothing happened
└── Unreachable   no answer: whether the server acted is unknown
    └── Unsent    no answer, and the request was never complete: nothing happened
"""


class KubeError(Exception):
    """An answer of the API server that is not a success."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        super().__init__(f"{reason or 'error'} ({status}): {message}")


class NotFound(KubeError):
    """The object does not exist."""


class Conflict(KubeError):
    """The object changed meanwhile, or exists already."""


class Gone(KubeError):
    """The resourceVersion is too old."""


class Forbidden(KubeError):
    """This user may not do that."""


class Invalid(KubeError):
    """The server does not accept the object."""


class Busy(KubeError):
    """The server answered that it cannot right now."""


class Unreachable(KubeError):
    """No answer came; the request may or may not have taken effect."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)


class Unsent(Unreachable):
    """The server was not reached, or never got all of the request: nothing took effect."""


class Withheld(KubeError):
    """The request was not made, because the caller may no longer act: nothing took effect."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Withheld", message)


_BY_STATUS: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Busy,
}


def error_of(status: int, reason: str, message: str) -> KubeError:
    """The exception for an HTTP status."""
    kind = _BY_STATUS.get(status, Busy if status >= 500 else KubeError)
    return kind(status, reason, message)
