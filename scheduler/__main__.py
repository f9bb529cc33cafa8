"""`python -m scheduler`."""

import gc
import os
import sys


def run() -> int:
    """Load the program and run it; the exit status.

    All that is loaded stays, so the collector does not look at it meanwhile. The arrays are small: a thread of the
    algebra library for each processor, which waits by turning, would cost more than it ever did.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()
    from scheduler.main import main

    gc.enable()
    return main()


sys.exit(run())
