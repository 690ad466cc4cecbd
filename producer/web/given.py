"""What a handler is given: the settings and the ledger of the app it belongs to."""

from typing import Annotated, cast

from fastapi import Depends, Path, Request

from configs.settings import Settings
from db.ledger import Ledger
from producer.web.access import Access
from producer.web.courses import Courses


def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def _ledger(request: Request) -> Ledger:
    return cast(Ledger, request.app.state.ledger)


def _access(request: Request) -> Access:
    return cast(Access, request.app.state.access)


def _courses(request: Request) -> Courses:
    return cast(Courses, request.app.state.courses)


#: Beyond this no database has an id.
LARGEST_ID = 2**63 - 1
AnId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
TheCourses = Annotated[Courses, Depends(_courses)]
TheSettings = Annotated[Settings, Depends(_settings)]
TheLedger = Annotated[Ledger, Depends(_ledger)]
TheAccess = Annotated[Access, Depends(_access)]
