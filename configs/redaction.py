"""Secrets taken out of text that others may read: messages, logs, tracebacks in the ledger."""

import re
from urllib.parse import unquote

#: What stands before a secret, and the secret.
SECRETS = (
    re.compile(r"(://[^\s:/@]*:)[^\s@]+(?=@)"),
    re.compile(r"(\b\w*(?:password|passwd)=)[^\s&;,'\"]+", re.IGNORECASE),
    re.compile(r"(\bhf_)[A-Za-z0-9]{16,}"),
)

#: Length from which a part of an address may be a secret.
SHORTEST = 4


def redact(text: str) -> str:
    """The text without the passwords of URLs and connection strings, and without hub tokens."""
    for secret in SECRETS:
        text = secret.sub(r"\1***", text)
    return text


def redact_address(text: str, address: str) -> str:
    """The text without an address to notify, and without any part of it but the kind of service and short words.

    Such a URL may have its secret anywhere: as host, user, path or parameter.
    """
    kind, _, rest = address.partition("://")
    parts = {part for part in re.split(r"[/:@?&=,;#+]", f"{rest}/{unquote(rest)}") if len(part) >= SHORTEST}
    for part in sorted({address, rest, unquote(rest), *parts} - {kind, ""}, key=len, reverse=True):
        text = text.replace(part, "***")
    return redact(text)
