"""Asking the kubelet and the API server again while there is time, and giving up with one clean error."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from deviceplugin.core.refusal import Refusal, Why
from kerf.kube.errors import Busy, KubeError, Unreachable

_LOG = logging.getLogger("kerf.deviceplugin.patience")
T = TypeVar("T")
CALL_S = 5.0
"""Seconds one call may take."""
SETTLE_S = 2.0
"""How long a pod that PodResources does not know yet is asked for again."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
_WORTH_ASKING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Unavailable(Exception):
    """The kubelet or the API server did not answer in time; the kubelet will call again."""


def ask(attempt: Callable[[], T], budget_s: float) -> T:
    """The attempt's answer. An `UNKNOWN_POD` refusal is asked again for a moment, a silent server until `budget_s`.

    Raises Unavailable.
    """
    began, pause = time.monotonic(), FIRST_PAUSE_S
    while True:
        problem, again = "", True
        try:
            answer = attempt()
            young = time.monotonic() - began < min(SETTLE_S, budget_s)
            if not (isinstance(answer, Refusal) and answer.why is Why.UNKNOWN_POD and young):
                return answer
        except KubeError as error:
            problem, again = f"the API server: {error}", isinstance(error, Unreachable | Busy)
        except grpc.RpcError as error:
            problem, again = f"the kubelet's PodResources API: {_words(error)}", _worth_asking(error)
        if problem and (not again or time.monotonic() - began + pause > budget_s):
            raise Unavailable(problem)
        if problem:
            _LOG.warning("%s; asking again", problem)
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_S)


def _worth_asking(error: grpc.RpcError) -> bool:
    return isinstance(error, grpc.Call) and error.code() in _WORTH_ASKING


def _words(error: grpc.RpcError) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
