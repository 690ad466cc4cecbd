"""Infotext as A1111's reader (modules/infotext_utils.py of A1111 1.10) understands it: text that tells of an image.

text   = prompt [ LF "Negative prompt: " negative ] LF params
params = key ": " value *( ", " key ": " value ), always the last line
value  = a JSON string where it holds a comma, newline or colon, else raw
"""

import json
import re
from collections.abc import Iterator

NEGATIVE = "Negative prompt:"
PARAMETER = re.compile(r'(?<![\w \-/])[ \-/]*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""A1111's, but for the look behind: a key is looked for once, and not from each of its letters."""
SIZE = re.compile(r"(\d+)x(\d+)")
NESTED = re.compile(r"(?:^|, )(Civitai resources|Civitai metadata|Hashes|TI hashes): (?=[\[{])")
"""What is written as JSON and not quoted, with commas of its own."""
FEWEST = 3
"""Of a line with fewer values A1111 says that it is prompt."""


def parse_infotext(text: str) -> dict[str, str]:
    """Infotext as names and values: Prompt, Negative prompt, Steps, …; Size as Size-1 and Size-2."""
    *lines, last = text.strip().split("\n")
    plain, nested = _take_nested(last)
    found = PARAMETER.findall(plain)
    if len(found) < FEWEST:
        lines, found, nested = [*lines, last], [], {}
    result = _parse_prompts([line.strip() for line in lines])
    for key, value in found:
        result.update(_parse_value(key, value))
    return result | nested


def _take_nested(line: str) -> tuple[str, dict[str, str]]:
    """The line without what is JSON in it, and that by its keys."""
    kept, nested, at = [], {}, 0
    for key, start, value, end in _find_nested(line):
        kept.append(line[at:start])
        nested[key], at = value, end
    return "".join([*kept, line[at:]]).removeprefix(", "), nested


def _find_nested(line: str) -> Iterator[tuple[str, int, str, int]]:
    end = 0
    for match in NESTED.finditer(line):
        if match.start() < end:
            continue
        try:
            _, end = json.JSONDecoder().raw_decode(line, match.end())
        except (ValueError, RecursionError):
            continue
        yield match[1], match.start(), line[match.end() : end], end


def _parse_prompts(lines: list[str]) -> dict[str, str]:
    start = next((i for i, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).removeprefix(NEGATIVE).lstrip(" ")
    return {"Prompt": "\n".join(lines[:start]), "Negative prompt": negative}


def _parse_value(key: str, value: str) -> dict[str, str]:
    if size := SIZE.fullmatch(value):
        return {f"{key}-1": size[1], f"{key}-2": size[2]}
    if value.startswith('"') and value.endswith('"'):
        try:
            return {key: str(json.loads(value))}
        except ValueError:
            pass
    return {key: value}
