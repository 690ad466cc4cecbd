"""A claim on a job."""

from typing import NamedTuple


class Claim(NamedTuple):
    """A job and the fence under which it was started: nobody without both may end it."""

    job_id: int
    fence: int
