"""What is asked of a large ledger: in our query language, and with LIKE, as the best peer asks it."""

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.history.drawn import MODELS, NOW, PACE

#: In each order but that of ids: all, and what filters tell much and little.
SORTED = ("", "castle", "batch:7", "since:2d", "sampler:ddim")


class Question(NamedTuple):
    """In our query language, and the condition that a peer would look for in its text."""

    ours: str
    theirs: str


def questions(jobs: int) -> Iterator[Question]:
    fact = "json_extract(facts, '$.{}')".format
    middle = f"{NOW - jobs * PACE / 2:.0f}"
    steps, scale = f"{fact('steps')} BETWEEN 20 AND 30", f"{fact('scale')} > 7"
    late, early = f"{fact('finished')} > {NOW - 2 * 86_400}", f"{fact('finished')} < {middle}"
    yield Question("castle", _like("castle"))
    yield Question('"sharp focus"', _like("sharp focus"))
    yield Question('castle "golden hour"', _like("castle", "golden hour"))
    yield Question("red -castle", _like("red") + " AND NOT " + _like("castle"))
    yield Question("zeppelin", _like("zeppelin"))
    yield Question("lighth*", _like("lighth"))
    yield Question("castle steps:20..30", f"{_like('castle')} AND {steps}")
    yield Question("seed:4242", _like('"seed":4242,'))
    yield Question("steps:20..30 scale>7", f"{steps} AND {scale}")
    yield Question("sampler:ddim since:2d", f"{_like('DDIM')} AND {late}")
    yield Question("batch:7 state:failed", _like('"batch_id":7,', '"state":"failed"'))
    yield Question("tag.category:Animals", _like('"category":"Animals"'))
    yield Question("flagged:yes", _like('"flagged":"flat"'))
    yield Question("size:512x768 took>7s", _like('"height":768') + f" AND {fact('seconds')} > 7")
    yield Question(f"model:{MODELS[-1]} before:{middle}", f"{_like(MODELS[-1])} AND {early}")


def _like(*words: str) -> str:
    return " AND ".join(f"facts LIKE '%{some}%'" for some in words)
