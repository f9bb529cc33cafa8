"""What can go wrong in the sandbox."""


class SandboxError(Exception):
    """A part could not be built, started or reached; the message says which, and shows the end of its log."""


class NodeUnavailableError(SandboxError):
    """A real kubelet cannot run on this machine; the message is one sentence that says why."""
