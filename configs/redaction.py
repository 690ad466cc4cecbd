"""Secrets taken out of text that others may read: messages, logs, tracebacks in the ledger."""

import re

#: What stands before a secret, and the secret.
SECRETS = (
    re.compile(r"(://[^\s:/@]*:)[^\s@]+(?=@)"),
    re.compile(r"(\b\w*(?:password|passwd)=)[^\s&;,'\"]+", re.IGNORECASE),
    re.compile(r"(\bhf_)[A-Za-z0-9]{16,}"),
)


def redact(text: str) -> str:
    """The text without the passwords of URLs and connection strings, and without hub tokens."""
    for secret in SECRETS:
        text = secret.sub(r"\1***", text)
    return text
