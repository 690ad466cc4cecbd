"""The pages and the HTTP API: a producer like the command line, which calls the same functions.

What a module of pages builds on:

- ``router = APIRouter(include_in_schema=False)``, and a line in `producer.web.app.ROUTERS`. Handlers that touch the
  ledger or the disk are plain ``def``: they run in threads.
- ``producer.web.given``: ``TheSettings`` and ``TheLedger`` as types of arguments; FastAPI fills them in.
- ``producer.web.page.page(request, "queue.html", nav="queue", **values)`` renders a template, which extends
  ``layout.html`` (blocks ``title``, ``head``, ``content``; ``nav`` is ``make``, ``batch``, ``queue`` or ``history``).
  Templates have ``csrf_token``, ``user`` and the filters ``moment``, ``plain``, ``duration``, ``percent``, ``number``.
- A form that changes anything posts ``<input type="hidden" name="csrf_token" value="{{ csrf_token }}">``; a script
  sends the header ``X-CSRF-Token`` with what ``<meta name="csrf-token">`` has (``import { post } from "./post.js"``).
  `producer.web.guard` checks it for every route, and who asks: a module of pages has nothing to do for that.
- ``producer.web.intake``: ``check_upload(content, name, settings, **flags)`` is `producer.submit.check` for what comes
  by the web, where rows name no paths; ``enqueue(submission, ledger, settings)`` records and sends it.
- `ProducerError`, `LedgerError` and `ConfigError` may pass: they become an error page, or problem+json below ``/api/``.
- No inline script and no inline style: the Content-Security-Policy forbids them. A response that needs another policy,
  as a report does, sets its own header, which is kept.
- Redirect with status 303 after a form.

Tests: ``tests/web/conftest.py`` has ``site`` (a server on a free port, ``site.url``, ``site.settings``,
``site.ledger``), ``client`` (the app in process) and ``browser`` (a headless Chromium).
"""
