"""Text from anywhere, made fit to be shown, or to be recorded."""

#: They join letters and emoji, and do nothing by themselves.
JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


def plain(text: str) -> str:
    """The text on one line; what could rule a terminal or turn the reading order is spelled out, as Python does."""
    return text if text.isprintable() else "".join(map(_shown, text))


def recordable(text: str) -> str:
    """The text as a database takes it: what is no text in it, as in the name of a file, becomes a question mark."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def _shown(character: str) -> str:
    if character.isprintable() or character in JOINERS:
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()
