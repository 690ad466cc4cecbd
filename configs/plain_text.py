"""Text from anywhere, made fit to be shown."""

#: They join letters and emoji, and do nothing by themselves.
JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


def plain(text: str) -> str:
    """The text on one line; what could rule a terminal or turn the reading order is spelled out, as Python does."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() or character in JOINERS:
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()
