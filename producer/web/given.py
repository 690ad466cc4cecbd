"""What a handler is given: the settings and the ledger of the app it belongs to."""

from typing import Annotated, cast

from fastapi import Depends, Request

from configs.settings import Settings
from db.ledger import Ledger
from producer.web.access import Access


def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def _ledger(request: Request) -> Ledger:
    return cast(Ledger, request.app.state.ledger)


def _access(request: Request) -> Access:
    return cast(Access, request.app.state.access)


TheSettings = Annotated[Settings, Depends(_settings)]
TheLedger = Annotated[Ledger, Depends(_ledger)]
TheAccess = Annotated[Access, Depends(_access)]
