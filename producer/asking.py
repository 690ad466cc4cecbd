"""The images that a checked file asks for, one by one, and which of them are to be made."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from producer.submit import Submission, content_keys


class Asked(NamedTuple):
    """One image of a row."""

    line: int
    key: bytes
    seeded: bool
    """Whether the row gives a seed: then all images of one key are the same picture, and else each is another."""
    model: str


def asked_images(submission: Submission) -> Iterator[Asked]:
    """All, in the file's order."""
    for row in submission.prompts.rows():
        seeded, model = row.parameters.seed is not None, row.parameters.model
        for key in content_keys(row, submission):
            yield Asked(row.line, key, seeded, model)


def choose_once(asked: Iterable[Asked]) -> bytearray:
    """A mark for each image: 0 where an earlier one has the same key."""
    seen = set[bytes]()
    marks = bytearray()
    for image in asked:
        marks.append(image.key not in seen)
        seen.add(image.key)
    return marks


def narrow(submission: Submission, marks: bytearray) -> Submission:
    """The submission with those of its images alone that are marked."""
    return replace(submission, chosen=marks, batch=replace(submission.batch, total=sum(marks)))
