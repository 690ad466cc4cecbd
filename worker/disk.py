"""Waits while the disk is too full to take images."""

import logging
import shutil
import threading
from pathlib import Path

log = logging.getLogger(__name__)

#: Seconds between two looks at a full disk.
PAUSE = 5.0


def wait_for_space(folder: Path, watermark_mb: int, stop: threading.Event) -> bool:
    """Return True once ``folder``'s disk has at least ``watermark_mb`` MB free, False when ``stop`` was set first."""
    while not stop.is_set():
        free = shutil.disk_usage(folder).free // 2**20
        if free >= watermark_mb:
            return True
        log.warning("Only %d MB free at %s: waiting until there are %d MB.", free, folder, watermark_mb)
        stop.wait(PAUSE)
    return False
