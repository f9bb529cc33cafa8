"""How the tables of options are written."""


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())
