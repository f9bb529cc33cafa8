"""Forward a port, sign in, open the browser, and stay."""

import argparse
import sys
import threading
import webbrowser
from pathlib import Path

from kerf.kube.client import Kube, connect
from kerf.kube.errors import KubeError
from kerf.kube.tunnel import PodTunnel
from kerfctl.errors import CliError
from kerfctl.report import say, warn
from kerfctl.ui.credential import cookie_of, token_of
from kerfctl.ui.doorstep import Doorstep
from kerfctl.ui.forward import Forward, forward_to, usual_port
from kerfctl.ui.target import Leader, Target, parse_url

MOST_PORT = 65_535


def open_page(args: argparse.Namespace) -> int:
    """Stay until interrupted. Raises CliError."""
    for name, port, least in (("--port", args.port, 0), ("--page-port", args.page_port, 1)):
        if not least <= port <= MOST_PORT:
            raise CliError(f"{name} {port}: write a port from {least} to {MOST_PORT}")
    kubeconfig = args.kubeconfig or str(Path("~/.kube/config").expanduser())
    try:
        kube, tunnel = connect(kubeconfig, timeout_s=30.0), PodTunnel(kubeconfig)
    except KubeError as error:
        raise CliError(str(error)) from error
    target: Target = parse_url(args.url) if args.url else Leader(kube, tunnel, args.namespace, args.page_port)
    try:
        forward = forward_to(target, args.port, usual_port(args.url or tunnel.server, args.namespace))
    except OSError as error:
        raise CliError(f"--port {args.port}: {error}") from error
    page = f"http://127.0.0.1:{forward.port}/"
    doorstep = Doorstep(_signed_in(forward, kube, tunnel.bearer_token(), args), page)
    file = doorstep.write_file(Path("~/.cache/kerf").expanduser())
    say(
        f"The page is at {page} until you press Ctrl-C.",
        f"To sign a browser in, open {file}, or give the code {doorstep.code} at {doorstep.url}",
        "Both work once, on this machine. The session lasts for an hour at most.",
        file=sys.stdout,  # at once, also where that is a pipe
    )
    if not args.no_browser and not webbrowser.open(file.as_uri()):
        warn("kerf: no browser could be started")
    try:
        threading.Event().wait()
    finally:
        file.unlink(missing_ok=True)
        doorstep.close()
        forward.close()
    return 0


def _signed_in(forward: Forward, kube: Kube, own: str, args: argparse.Namespace) -> str:
    token = token_of(kube, own, args.namespace, args.service_account)
    try:
        return cookie_of(forward.port, token)
    except OSError as error:
        why = forward.problem or str(error)
        raise CliError(
            f"the page does not answer ({why}); is page.enabled set in the chart, and may you create pods/portforward?"
        ) from error
