"""Errors of the sandbox."""


class SandboxError(Exception):
    """A part could not be built, started or reached. The message names it and shows the end of its log."""


class NodeUnavailableError(SandboxError):
    """A real kubelet cannot run on this machine. The message is one sentence with the reason."""
