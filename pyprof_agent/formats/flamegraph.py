"""A profile as one HTML page with a flame graph, which loads nothing and needs nobody.

Everything of the profile is in a block of JSON, in which no letter can end the block; the script
puts it into the page as text. The page's policy allows the scripts and styles of this package by
their hashes, and nothing else, also when it was saved to a file.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import pkgutil
import re
from dataclasses import asdict
from html import escape

from pyprof_agent.formats.call_tree import call_tree
from pyprof_agent.formats.columns import parts, shown_part
from pyprof_agent.formats.json_text import array, compact
from pyprof_agent.formats.numbering import Numbering
from pyprof_agent.formats.speedscope import identity
from pyprof_agent.profile import Profile, rounded

MAX_NODES = 100_000
"""Nodes in a page of some 3 MB; a browser draws those that are a pixel wide, others when it is
zoomed in. More than all nodes of 20,000 stacks as they usually are."""

_SCRIPTS = (
    "vendor/d3/d3.min.js",
    "vendor/d3-flame-graph/d3-flamegraph.umd.min.js",
    "flamegraph.js",
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: flame graph</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<label>Show <select id="part"></select></label>
<label>Search <input id="search" type="search" spellcheck="false" autocomplete="off"></label>
<button id="reset" type="button">Reset zoom</button>
</header>
<p id="details" aria-live="polite"></p>
<main id="chart"></main>
<footer>
<p id="hidden"></p>
<ul id="comments"></ul>
<noscript><p>The graph is drawn by a script in this page; format=top is a table without one.</p>
</noscript>
</footer>
<script type="application/json" id="profile">{data}</script>
{scripts}
</body>
</html>
"""


def page(profile: Profile, title: str) -> bytes:
    """The page, in UTF-8; its first view is the profile's default column.

    Nodes are functions, wherever in them the call was. What has shrunk in a window is a view of
    its own, as widths are never below 0.

    title: its heading

    Raises ProfileError if the profile has no column of its default's name.
    """
    return _PAGE.format(
        title=escape(title),
        policy=escape(policy()),
        style=_asset("flamegraph.css"),
        data=_data(rounded(profile)),
        scripts="\n".join([f"<script>{_asset(name)}</script>" for name in _SCRIPTS]),
    ).encode()


@functools.cache
def policy() -> str:
    """The page's Content-Security-Policy."""
    scripts = " ".join([_hash(_asset(name)) for name in _SCRIPTS])
    # The library adds its own style sheet to the page.
    library_style = re.search(r"textContent=`(.*?)`", _asset(_SCRIPTS[1]), re.DOTALL)
    assert library_style is not None
    styles = " ".join([_hash(_asset("flamegraph.css")), _hash(library_style[1])])
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; "
        "base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _asset(name: str) -> str:
    data = pkgutil.get_data(__package__, f"assets/{name}")
    assert data is not None
    return data.decode()


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _data(profile: Profile) -> str:
    columns = parts(profile)
    functions = Numbering(identity)
    tree = call_tree(profile, columns, functions, MAX_NODES)
    used = sorted(set(tree.functions[1:]))
    place = {number: index for index, number in enumerate(used)}
    files: dict[str, int] = {}
    names = []
    for number in used:
        name, file, line = functions.keys[number]
        names.append((name, files.setdefault(file, len(files)), line))
    fields = {
        "shown": compact(shown_part(profile, columns)),
        "below": compact(tree.below),
        "parts": compact(
            [
                {"name": part.name, "unit": part.value_type.unit, "hidden": asdict(hidden)}
                for part, hidden in zip(columns, tree.hidden, strict=True)
            ]
        ),
        "files": array(list(files)),
        "functions": array(names),
        "parents": array(tree.parents),
        "function": array([0, *(place[number] for number in tree.functions[1:])]),
        "values": f"[{','.join(map(array, tree.values))}]",
        "time": compact(profile.time_nanos // 10**6),
        "seconds": compact(profile.duration_nanos / 1e9),
        "comments": compact(profile.comments),
    }
    text = "{" + ",".join([f'"{name}":{value}' for name, value in fields.items()]) + "}"
    # These mean something to HTML, and stand in strings only.
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
