"""Signs of a fault in an inference server, as the node's device plugin would see them."""

import time

from kerf.faults.servers import Progress, Sample, error_in, parse_sample
from kerf.http.fetch import fetch
from kerf.values.units import show
from kerfctl.errors import CliError
from kerfctl.log_files import read_lines
from kerfctl.report import say

LOOK_S = 10.0
CALL_S = 2.0
LARGEST_PAGE = 4 << 20


def in_log(name: str) -> int:
    """Print the lines that report an error of CUDA, cuDNN or NCCL; how many there are. Raises CliError."""
    count = 0
    for number, line in enumerate(read_lines(name), 1):
        if found := error_in(line):
            count += 1
            say(f"line {number}: {found}")
    if not count:
        say("no error of CUDA, cuDNN or NCCL is in this log")
    return count


def in_pages(url: str, seconds: float) -> int:
    """Look at the server's pages for so long; 1 if it stalls. Raises CliError for one that cannot be watched."""
    address = url.rstrip("/") if "://" in url else f"http://{url.rstrip('/')}"
    if not address.startswith(("http://", "https://")):
        raise CliError(f"{url}: write http://HOST:PORT")
    end, progress = time.monotonic() + seconds, Progress()
    while True:
        sample = _sample(address)
        progress = progress.after(sample)
        if stalled := progress.stalled(sample):
            say(f"the server reports {stalled}")
            return 1
        if time.monotonic() >= end:
            break
        time.sleep(min(LOOK_S, max(end - time.monotonic(), 0.0)))
    say(
        f"the health page {'answers' if sample.healthy else 'does not answer with 200'}, {show(int(sample.running))} "
        f"requests run, {show(int(sample.tokens))} tokens so far: Kerf can watch this server"
    )
    return 0


def _sample(address: str) -> Sample:
    try:
        text = fetch(f"{address}/metrics", CALL_S, largest=LARGEST_PAGE).decode(errors="replace")
    except (OSError, ValueError) as error:
        raise CliError(f"{address}/metrics: nothing answers ({error})") from error
    try:
        fetch(f"{address}/health", CALL_S, largest=LARGEST_PAGE)
        healthy = True
    except (OSError, ValueError):
        healthy = False
    found = parse_sample(time.monotonic(), healthy, text)
    if found is None:
        raise CliError(f"{address}/metrics: no counter of tokens of vLLM or SGLang, so no stall can be seen")
    return found
