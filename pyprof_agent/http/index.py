"""The index page: what is there, what is on, and the commands to use it. Pure HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

DESCRIPTIONS = {
    "allocs": "Memory allocations so far: the same table as heap, allocations shown first.",
    "heap": "Memory in use, by the stack that allocated it. gc=1 collects garbage first; "
    "seconds=N shows what changed in that time.",
    "delta_heap": "Memory allocated since this was last asked for, by whomever, and memory in use. "
    "For one scraper that takes no differences itself.",
    "profile": "CPU time by stack over seconds=N, 30 if not given.",
    "wall": "Elapsed time by stack, waiting included, over seconds=N, 30 if not given.",
    "goroutine": "Every thread and asyncio task with the stack it is at. "
    "debug=2 lists them one by one, with names.",
    "threadcreate": "Threads by the function they run.",
    "block": "Always empty, and there because scrapers ask for it: waiting for locks is not "
    "sampled; wall shows where threads wait.",
    "mutex": "Always empty, like block.",
    "cmdline": "The command line of this program, arguments separated by NUL.",
    "symbol": "Function names for addresses, given in the query or a POST body, joined by +.",
}
"""A line for each path that is served."""

_DEBUG = {"heap": 1, "allocs": 1, "goroutine": 2, "threadcreate": 1, "block": 1, "mutex": 1}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pprof: {title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 54rem;
  padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent);
  padding: .4rem .8rem .4rem 0; text-align: left; vertical-align: top; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
pre {{ background: color-mix(in srgb, currentColor 8%, transparent); overflow-x: auto;
  padding: .8rem; border-radius: .3rem; }}
@media (max-width: 40rem) {{
  .profiles thead {{ display: none; }}
  .profiles tr {{ display: grid; grid-template-columns: 4rem 1fr auto; padding: .4rem 0;
    border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }}
  .profiles td {{ border: 0; padding: 0 .8rem 0 0; }}
  .profiles td:last-child {{ grid-column: 2 / -1; }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
<table class="profiles">
<thead><tr><th class="number">Count</th><th>Profile</th><th>As text</th><th>What it is</th></tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
<h2>Open one</h2>
<pre>{commands}</pre>
<h2>How it is sampled</h2>
<table>
<tbody>
{facts}
</tbody>
</table>
</body>
</html>
"""


def page(
    *,
    url: str,
    profiles: Sequence[str],
    engines: Mapping[str, str],
    fallbacks: Mapping[str, str],
    stats: Mapping[str, Mapping[str, float]],
    cmdline: bool,
) -> str:
    """The page as HTML.

    url: of this very page, ending in `/`
    profiles: names of the profiles that can be had
    engines: the engine of each source
    fallbacks: why an engine is not the native one
    stats: numbers of each source
    cmdline: whether the command line is served
    """
    names = [*profiles, *(("cmdline",) if cmdline else ()), "symbol"]
    counts = _counts(stats)
    commands = [
        f"go tool pprof -http=: '{url}{name}'"
        for name in ("heap", "profile?seconds=10")
        if name.partition("?")[0] in profiles
    ] or [f"curl '{url}goroutine?debug=2'"]
    facts = [(f"{room} engine", engine) for room, engine in engines.items()]
    facts += [(f"{room}: not native because", why) for room, why in fallbacks.items()]
    facts += [
        (f"{room}: {key.replace('_', ' ')}", f"{value:,.10g}")
        for room, numbers in stats.items()
        for key, value in numbers.items()
    ]
    return _PAGE.format(
        title=escape(url),
        rows="\n".join(_row(name, counts.get(name)) for name in names),
        commands=escape("\n".join(commands)),
        facts="\n".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts
        ),
    )


def _counts(stats: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Rows each profile would have, as far as that is known without making it."""
    counts = {}
    if "heap" in stats:
        counts["heap"] = counts["allocs"] = stats["heap"]["stacks"]
    if "stacks" in stats:
        counts["profile"] = counts["wall"] = stats["stacks"]["stacks"]
    if "threads" in stats:
        counts["goroutine"] = stats["threads"]["threads"] + stats["threads"]["tasks"]
        counts["threadcreate"] = stats["threads"]["threads"]
    return counts


def _row(name: str, count: float | None) -> str:
    number = "" if count is None else f"{count:,.0f}"
    as_text = (
        f'<a href="{name}?debug={_DEBUG[name]}">debug={_DEBUG[name]}</a>'
        if (name in _DEBUG)
        else ""
    )
    return (
        f'<tr><td class="number">{number}</td><td><a href="{name}">{name}</a></td>'
        f"<td>{as_text}</td><td>{escape(DESCRIPTIONS[name])}</td></tr>"
    )
