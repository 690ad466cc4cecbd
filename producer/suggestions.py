"""Names that are close to one that is unknown."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: str, known: Iterable[str], otherwise: str) -> str:
    """``did you mean …?``, or what else can be done."""
    folded = {word.casefold(): word for word in known}
    close = [folded[word] for word in get_close_matches(name.casefold(), folded, n=3)]
    return f"did you mean {' or '.join(close)}?" if close else otherwise
