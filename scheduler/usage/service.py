"""`UsageStatsService.UsageReport`: who reports, what, and whether there is room for it. The gRPC shell of the reports.

A report is answered once it is counted in memory. It is stored within `write_s`; a process that is killed loses what it
has not stored. A report has no id, so one that is sent again is counted again.
"""

import threading
from collections.abc import Callable
from typing import NoReturn

import grpc

from kerf.metering.reports import Reports
from kerf.values.usage import ReportedRow
from scheduler.usage._pb import gateway_usage_pb2 as pb
from scheduler.usage.identity import Denied, Identify
from scheduler.usage.metrics import UsageMetrics

SERVICE = "knoway.service.v1alpha1.UsageStatsService"
LONGEST = 253
MOST_TOKENS = 10_000_000
"""Of one request; more is no request."""


class UsageService:
    """Safe from several threads."""

    def __init__(self, reports: Reports, now_ms: Callable[[], int], metrics: UsageMetrics) -> None:
        self._reports = reports
        self._now_ms = now_ms
        self._metrics = metrics
        self.lock = threading.Lock()
        """Guards the reports."""

    def handlers(self, identify: Identify) -> grpc.GenericRpcHandler:
        """For `server.add_generic_rpc_handlers`; `identify` is how this listener knows gateways."""

        def report(request: pb.UsageReportRequest, context: grpc.ServicerContext) -> pb.UsageReportResponse:
            return self._report(request, context, identify)

        method = grpc.unary_unary_rpc_method_handler(
            report, pb.UsageReportRequest.FromString, pb.UsageReportResponse.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"UsageReport": method})

    def _report(
        self, request: pb.UsageReportRequest, context: grpc.ServicerContext, identify: Identify
    ) -> pb.UsageReportResponse:
        gateway = identify(context)
        if isinstance(gateway, Denied):
            self._refuse(context, gateway.code, "denied", gateway.why)
        row = row_of(request)
        if isinstance(row, str):
            self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "invalid", row)
        with self.lock:
            counted = self._reports.add(self._now_ms(), gateway, row)
        if not counted:
            why = "reports cannot be stored, and there is no room for another hour; try again later"
            self._refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "full", why)
        self._metrics.reports.labels("accepted").inc()
        for kind, count in (("input", row.input), ("cached", row.cached), ("output", row.output)):
            self._metrics.tokens.labels(kind).inc(count)
        return pb.UsageReportResponse(accepted=True)

    def _refuse(self, context: grpc.ServicerContext, code: grpc.StatusCode, outcome: str, why: str) -> NoReturn:
        self._metrics.reports.labels(outcome).inc()
        context.abort(code, why)
        raise AssertionError("abort always raises")


def row_of(request: pb.UsageReportRequest) -> ReportedRow | str:
    """The report as a row, or what is wrong with it. The engine's name of the model counts, else the client's."""
    model = request.upstream_model_name or request.user_model_name
    if not model:
        return "upstream_model_name: empty; name the model as the engine does"
    texts = {"api_key_id": request.api_key_id, "user_id": request.user_id, "upstream_model_name": model}
    for name, text in texts.items():
        if len(text) > LONGEST or not text.isprintable():
            return f"{name}: write at most {LONGEST} printable characters"
    usage = request.usage
    counts = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
    }
    for name, count in counts.items():
        if count > MOST_TOKENS:
            return f"usage.{name}: {count}; write the tokens of one request, at most {MOST_TOKENS}"
    cached = min(usage.cached_tokens, usage.input_tokens)
    return ReportedRow(request.api_key_id, request.user_id, model, 1, usage.input_tokens, cached, usage.output_tokens)
