"""Addresses: where notices are sent. Each is a URL of the library Apprise, and may be a secret from end to end."""

import re
from collections.abc import Iterable

from configs.errors import InvalidParameter

#: How one begins: with the kind of service.
KIND = re.compile(r"([a-z][a-z0-9+.-]{1,20})://\S", re.IGNORECASE)


class Addresses(tuple[str, ...]):
    """URLs that are not shown, wherever the settings are."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object) -> "Addresses":
        """A list of URLs, or text that separates them by white space. Raises InvalidParameter, which quotes none."""
        found = value.split() if isinstance(value, str) else value
        if not isinstance(found, Iterable) or not all(isinstance(url, str) and KIND.match(url) for url in found):
            raise InvalidParameter("an address is no URL such as mailto://… or json://…; docs/notifications.md")
        return cls(map(str.strip, found))

    def __repr__(self) -> str:
        return f"<{len(self)} addresses>"

    def names(self) -> list[str]:
        """What each may be called where anybody reads it: its place and kind."""
        return [f"address {place} ({_kind(url)})" for place, url in enumerate(self, 1)]


def _kind(url: str) -> str:
    found = KIND.match(url)
    return found[1].lower() if found else ""
