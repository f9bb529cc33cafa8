"""The error that ends a verb with one sentence."""


class CliError(Exception):
    """What went wrong and what to do, for a person."""
