"""Makes one HTML page of a report. It needs no network, and nothing in it can run but its own scripts.

Everything that comes from a run stands in the page as JSON in which no character can end the element that holds it; the
scripts put it in as text. The page's policy allows those scripts and styles by their digests, and nothing else: no
picture, no request, no form.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files

from flatout.text.halves import to_json

from .model import Report

SCRIPTS = ("uPlot.iife.min.js", "words.js", "plots.js", "rows.js", "page.js")
"""The scripts of a report, in the order in which they run."""

LIVE = (*SCRIPTS[:-1], "live.js", SCRIPTS[-1])
"""The scripts of a live page."""

STYLES = ("uPlot.min.css", "page.css")

_OWN, _NONE = "'self'", "'none'"
_ESCAPED = str.maketrans({"<": r"\u003c", ">": r"\u003e", "&": r"\u0026", "\u2028": r"\u2028", "\u2029": r"\u2029"})

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
{styles}
</head>
<body>
<main id="report"><noscript><p>This page draws its plots and tables with its own scripts, which are switched off.</p>
<p>{headline}</p></noscript></main>
<script type="application/json" id="data">{data}</script>
{scripts}
</body>
</html>
"""


def page(report: Report) -> str:
    """The page of a report."""
    live = report.served is not None
    styles, scripts = [_asset(name) for name in STYLES], [_asset(name) for name in (LIVE if live else SCRIPTS)]
    policy = (
        f"default-src 'none'; img-src data:; script-src {_digests(scripts)}; style-src {_digests(styles)}; "
        f"connect-src {_OWN if live else _NONE}; base-uri 'none'; form-action 'none'"
    )
    return _PAGE.format(
        policy=policy,
        title=escape(f"{report.title} – flatout {'watch' if live else 'report'}"),
        headline=escape(report.runs[0].headline),
        styles="\n".join(f"<style>{text}</style>" for text in styles),
        scripts="\n".join(f"<script>{text}</script>" for text in scripts),
        data=embedded(report),
    )


def embedded(report: Report) -> str:
    """A report as JSON that may stand in an HTML element: no character in it can end the element."""
    return to_json(report).decode("utf-8", "replace").translate(_ESCAPED)


def _digests(texts: list[str]) -> str:
    return " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts)


@cache
def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")
