"""The one engine of this process, kept warm between jobs of one checkpoint."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker.engine import Engine

log = logging.getLogger(__name__)


class WarmEngine:
    """Lends the engine of a checkpoint; another checkpoint is opened only when nobody uses the present one.

    Two checkpoints at once would not fit a small card. Who wants another one waits for those at work, and newcomers
    wait behind him, so that a stream of jobs of one checkpoint cannot starve the other.
    """

    def __init__(self, open_engine: Callable[[str], Engine]) -> None:
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._model: str | None = None
        self._users = 0
        self._turn = threading.Lock()
        self._left = threading.Condition()
        self._closed = False

    @contextmanager
    def lent(self, model: str) -> Iterator[Engine]:
        """The engine of ``model``'s checkpoint, opened first where it is not the warm one.

        Raises:
            CheckpointError: the checkpoint cannot be opened; the next caller tries again.
        """
        with self._turn:
            engine = self._engine if self._model == model else self._switch(model)
            assert engine is not None
            with self._left:
                self._users += 1
        try:
            yield engine
        finally:
            with self._left:
                self._users -= 1
                self._left.notify_all()

    def close(self, *, finish: bool) -> None:
        """Stop the engine, as `Engine.close`; one that is lent stops too, and one that is opened later at once."""
        self._closed = True
        if self._engine:
            self._engine.close(finish=finish)

    def _switch(self, model: str) -> Engine:
        with self._left:
            self._left.wait_for(lambda: not self._users)
        if self._engine:
            self._engine.close(finish=True)
        self._engine, self._model = None, None
        started = time.monotonic()
        engine = self._open_engine(model)
        log.info("Checkpoint %s is warm after %.1f s.", model, time.monotonic() - started)
        self._engine, self._model = engine, model
        if self._closed:
            engine.close(finish=True)
        return engine
