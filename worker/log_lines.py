"""The worker's log: lines that hold no secret, and that no text of a job can forge or make rule a terminal."""

import logging
import sys

from configs.plain_text import plain
from configs.redaction import redact


class LogLines(logging.Formatter):
    """A record a line; only its traceback may take more."""

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = redact(super().format(record)).rstrip("\n").split("\n")
        # What follows is indented: a message with a newline in it cannot pass for a record.
        return "\n".join([plain(first), *(f"    {plain(line)}" for line in rest)])


def start_log(line: str) -> None:
    """Write everything from INFO on to standard error, each as ``line`` says."""
    written = logging.StreamHandler(sys.stderr)
    written.setFormatter(LogLines(line))
    logging.basicConfig(level=logging.INFO, handlers=[written])
