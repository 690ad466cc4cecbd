"""A report as one HTML file that needs nothing beside itself: no network, no script, no other file."""

import time

from jinja2 import Environment, PackageLoader, StrictUndefined

from configs.plain_text import plain
from producer.report import Report
from producer.table import moment

#: Of a plot, in its own units.
WIDTH, HEIGHT = 960, 180


def render(report: Report, *, served: bool = False) -> str:
    """The page; one that is served by `promptmill web` leads back to the batch."""
    page = _environment().get_template("report.html")
    return page.render(report=report, batch=report.batch, width=WIDTH, height=HEIGHT, now=time.time(), served=served)


def _environment() -> Environment:
    # Escapes whatever a prompt, a tag or an error holds.
    found = Environment(autoescape=True, loader=PackageLoader("producer", "pages"), undefined=StrictUndefined)
    found.trim_blocks = found.lstrip_blocks = True
    found.filters.update(moment=moment, plain=plain_lines, duration=duration, percent=percent, number=number)
    return found


def plain_lines(text: object) -> str:
    """Text fit to be shown, whose lines stay lines."""
    return "\n".join(map(plain, str(text).splitlines()))


def duration(seconds: float) -> str:
    """``7 h 05 min``, ``3 min 20 s``, ``4.2 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def percent(share: float) -> str:
    return f"{share:.1%}"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
