"""Retrying calls to the kubelet and the API server until a deadline, then failing with one clear error."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from deviceplugin.core.refusal import StartRefusal, Why
from kerf.kube.errors import Busy, KubeError, Unreachable

_LOG = logging.getLogger("kerf.deviceplugin.retry")
T = TypeVar("T")
CALL_S = 5.0
"""Seconds one call may take."""
SETTLE_S = 2.0
"""How long to retry while PodResources does not list the pod yet."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
_RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Unavailable(Exception):
    """The kubelet or the API server did not answer in time. The kubelet retries the call."""


def until_deadline(attempt: Callable[[], T], budget_s: float) -> T:
    """The attempt's answer. Retries an `UNKNOWN_POD` refusal for a moment, and a server that is away until `budget_s`.

    Raises Unavailable.
    """
    began, pause = time.monotonic(), FIRST_PAUSE_S
    while True:
        problem, retryable = "", True
        try:
            answer = attempt()
            young = time.monotonic() - began < min(SETTLE_S, budget_s)
            if not (isinstance(answer, StartRefusal) and answer.why is Why.UNKNOWN_POD and young):
                return answer
        except KubeError as error:
            problem, retryable = f"the API server: {error}", isinstance(error, Unreachable | Busy)
        except grpc.RpcError as error:
            problem, retryable = f"the kubelet's PodResources API: {_describe(error)}", _is_retryable(error)
        if problem and (not retryable or time.monotonic() - began + pause > budget_s):
            raise Unavailable(problem)
        if problem:
            _LOG.warning("%s; retrying", problem)
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_S)


def _is_retryable(error: grpc.RpcError) -> bool:
    return isinstance(error, grpc.Call) and error.code() in _RETRYABLE


def _describe(error: grpc.RpcError) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
