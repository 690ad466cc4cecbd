"""Origins: how a prompt came about, as the ledger and image files have it, in words.

An origin is a JSON object. ``prompt`` and ``negative_prompt`` are the file's own; ``template`` is what was expanded,
where styles or added texts make that another text; ``mode``, ``seed`` and ``number`` say which of its prompts this is;
``wildcards`` has the sha256 of each wildcard's file; ``styles`` and ``sweep`` are names. What was not used is left out.
"""

from typing import Any

DIGITS = 10
"""Of a sha256, as people read it."""


def describe_origin(origin: object) -> str:
    """An origin in one line: ``a {red|blue} cat (combinatorial, seed 7, number 3)``."""
    if not isinstance(origin, dict):
        return "" if origin is None else str(origin)
    template = origin.get("template") or origin.get("prompt", "")
    return f"{template} ({', '.join(_facts(origin)) or 'as it stands'})"


def _facts(origin: dict[str, Any]) -> list[str]:
    wildcards = origin.get("wildcards")
    named = wildcards.items() if isinstance(wildcards, dict) else ()
    found = {
        "mode": str(origin.get("mode", "")),
        "seed": f"seed {origin.get('seed')}" if "seed" in origin else "",
        "number": f"number {origin.get('number')}" if "number" in origin else "",
        "styles": _names("styles", origin.get("styles")),
        "sweep": _names("swept", origin.get("sweep")),
        "wildcards": _names("wildcards", [f"{name} {str(digest)[:DIGITS]}" for name, digest in named]),
    }
    return [fact for fact in found.values() if fact]


def _names(word: str, names: object) -> str:
    return f"{word} {' and '.join(map(str, names))}" if isinstance(names, list) and names else ""
