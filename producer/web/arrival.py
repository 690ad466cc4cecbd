"""Browsers that come from another site: by a link, with which they bring no cookie; or to take what is ours.

The fetch metadata (https://www.w3.org/TR/fetch-metadata/) tells them apart. A browser too old to send it is not kept
out here; its cookie is `SameSite=Strict` all the same.
"""

from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import Scope

ELSEWHERE = ("cross-site", "same-site")


def came_by_link(scope: Scope, headers: Headers) -> bool:
    """Whether somebody follows another site's link to a page here."""
    return (
        comes_from_elsewhere(headers)
        and headers.get("sec-fetch-mode") == "navigate"
        and scope["method"] in ("GET", "HEAD")
    )


def is_taken(scope: Scope, headers: Headers) -> bool:
    """Whether another site's page asks for a part of itself: a picture, say, or what keeps this machine busy."""
    return comes_from_elsewhere(headers) and not came_by_link(scope, headers)


def asked_link(scope: Scope) -> str:
    """Path and query of a request, as a link within this server."""
    query = scope["query_string"].decode("latin-1")
    return inside(quote(scope["path"]) + (f"?{query}" if query else ""))


def inside(link: str) -> str:
    """A path of this server; the start for a link that leads elsewhere."""
    leads_out = not link.startswith("/") or link.startswith("//") or "\\" in link or any(map(str.isspace, link))
    return "/" if leads_out or not link.isprintable() else link


def comes_from_elsewhere(headers: Headers) -> bool:
    """Whether another site's page has the browser ask."""
    return headers.get("sec-fetch-site") in ELSEWHERE
