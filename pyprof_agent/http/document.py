"""What every page of the endpoints has around it: plain HTML, light or dark, for phones too."""

from __future__ import annotations

from html import escape

_STYLE = """\
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 62rem;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
a { color: light-dark(#0b57d0, #8ab4f8); }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .8rem .4rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: color-mix(in srgb, currentColor 8%, transparent); overflow-wrap: anywhere;
  padding: .8rem; border-radius: .3rem; white-space: pre-wrap; }
"""


def document(title: str, body: str, style: str = "") -> str:
    """A page as HTML.

    title: plain text, also the heading
    body: HTML below the heading
    style: CSS besides what all pages have
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pprof: {escape(title)}</title>
<style>
{_STYLE}{style}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""
