"""What a form has sent, files among it; these are closed with the request."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile


async def _sent(request: Request) -> AsyncIterator[FormData]:
    form = await request.form()
    try:
        yield form
    finally:
        await form.close()


Sent = Annotated[FormData, Depends(_sent)]


def content_of(sent: FormData, name: str) -> bytes:
    """The bytes of a file; none where none was chosen."""
    file = sent.get(name)
    return file.file.read() if isinstance(file, UploadFile) else b""


def filename_of(sent: FormData, name: str) -> str:
    file = sent.get(name)
    return file.filename or "" if isinstance(file, UploadFile) else ""
