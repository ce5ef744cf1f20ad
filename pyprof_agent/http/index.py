"""The index page: what is there, what is on, and the commands to use it. Pure HTML."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from html import escape

from pyprof_agent.formats.units import label
from pyprof_agent.http.document import document

DESCRIPTIONS = {
    "allocs": "Memory allocations so far: the same table as heap, allocations shown first.",
    "heap": "Memory in use, by the stack that allocated it. gc=1 collects garbage first; "
    "seconds=N shows what changes in that time, last=N what has changed in the last N seconds.",
    "delta_heap": "Memory allocated since this was last asked for, by whomever, and memory in use. "
    "For one scraper that takes no differences itself.",
    "profile": "CPU time by stack over seconds=N, 30 if not given; last=N is the last N seconds, "
    "at once.",
    "wall": "Elapsed time by stack, waiting included, over seconds=N, 30 if not given, or last=N.",
    "goroutine": "Every thread and asyncio task with the stack it is at. "
    "debug=2 lists them one by one, with names.",
    "threadcreate": "Threads by the function they run.",
    "block": "Always empty, and there because scrapers ask for it: waiting for locks is not "
    "sampled; wall shows where threads wait.",
    "mutex": "Always empty, like block.",
    "leaks": "Whether memory grows, how fast, and which lines make it grow.",
    "cmdline": "The command line of this program, arguments separated by NUL.",
    "symbol": "Function names for addresses, given in the query or a POST body, joined by +.",
}
"""A line for each path that is served."""

_DEBUG = {
    "heap": 1,
    "allocs": 1,
    "delta_heap": 1,
    "goroutine": 2,
    "threadcreate": 1,
    "block": 1,
    "mutex": 1,
}

_SECONDS = 10
"""Length of the window behind a link to a profile that is always of one."""

_LINKS = {"html": "flame graph", "top": "top", "folded": "folded", "speedscope": "speedscope"}
"""What links to a profile's formats are called; `proto` is the link of its name."""

_ENGINES = {
    "native": "in C; taken where it can be used",
    "tracemalloc": "of Python's standard library: sees every allocation, and is slow",
    "python": "a thread in Python that looks at stacks, approximate",
    "off": "switched off",
}

_LOSSES = {
    "heap": {
        "dropped": "samples lost: no memory, or other code had removed the hooks",
        "overflowed": "samples that came when the table of frames was full",
        "folded": "stacks that gave up their row to others",
        "subinterpreter": "samples not taken, as they fell into a subinterpreter",
        "resets": "times other code had removed the hooks",
    },
    "stacks": {
        "overflowed": "new stacks that came when the table was full",
        "folded": "stacks that gave up their row to others",
        "failures": "looks that failed",
        "unreadable": "stacks that changed at each attempt to read them",
    },
}
"""Numbers of a source that are no cost but a loss, and what each is of."""

_STYLE = """\
.profiles th { overflow-wrap: normal; }
.facts { table-layout: fixed; }
.facts th { font-weight: 400; width: 14rem; }
.facts .number { width: 8rem; }
.profiles ul { display: flex; flex-wrap: wrap; gap: 0 .8rem; list-style: none; margin: 0;
  padding: 0; }
@media (max-width: 40rem) {
  .profiles thead { display: none; }
  .profiles tr, .facts tr { display: grid; grid-template-columns: 1fr auto; padding: .5rem 0;
    border-bottom: 1px solid var(--line); }
  .profiles th, .profiles td, .facts th, .facts td { border: 0; padding: 0; width: auto; }
  .profiles td:nth-child(n + 3), .facts td:nth-child(n + 3) { grid-column: 1 / -1; }
  .profiles .number:not(:empty)::after { content: " rows"; }
  .profiles a { display: inline-block; padding: .25rem 0; }
}
"""

_BODY = """\
<h2 id="profiles">Profiles</h2>
<table class="profiles" aria-labelledby="profiles">
<thead><tr><th scope="col">Profile</th><th scope="col" class="number">Rows</th>
<th scope="col">See it as</th><th scope="col">What it is</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<h2>Open one with a tool</h2>
<pre>{commands}</pre>
{tables}"""


def page(
    *,
    url: str,
    profiles: Sequence[str],
    windowed: Collection[str],
    engines: Mapping[str, str],
    fallbacks: Mapping[str, str],
    stats: Mapping[str, Mapping[str, float]],
    cmdline: bool,
) -> str:
    """The page as HTML.

    url: of this very page, ending in `/`
    profiles: names of the profiles that can be had
    windowed: names of profiles that are always of a window
    engines: the engine of each source
    fallbacks: why an engine is not the native one
    stats: numbers of each source, and of the process
    cmdline: whether the command line is served
    """
    leaks = ("leaks",) if "leaks" in stats else ()
    names = [*profiles, *leaks, *(("cmdline",) if cmdline else ()), "symbol"]
    counts = _counts(stats)
    tables = [
        _table("Memory and time", _process(stats.get("process", {}), stats.get("heap", {}))),
        _table("How it is sampled", _engines(engines, fallbacks, stats)),
        _table("What was lost", _losses(stats)),
        _table("What it counts and costs", _rest(stats)),
    ]
    body = _BODY.format(
        rows="\n".join(
            _row(
                name,
                counts.get(name),
                links=_LINKS if name in profiles else {},
                window=f"&seconds={_SECONDS}" if name in windowed else "",
            )
            for name in names
        ),
        commands=escape("\n".join(_commands(url, profiles))),
        tables="\n".join(tables),
    )
    return document(url, body, _STYLE)


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


def _row(name: str, count: float | None, *, links: Mapping[str, str], window: str) -> str:
    number = "" if count is None else f"{count:,.0f}"
    queries = {f"format={key}{window}": text for key, text in links.items()}
    if name in _DEBUG:
        queries[f"debug={_DEBUG[name]}"] = "text"
    items = "".join(
        f'<li><a href="{name}?{escape(query)}" aria-label="{name}: {text}">{text}</a></li>'
        for query, text in queries.items()
    )
    return (
        f'<tr><th scope="row"><a href="{name}">{name}</a></th><td class="number">{number}</td>'
        f"<td>{f'<ul>{items}</ul>' if items else ''}</td><td>{escape(DESCRIPTIONS[name])}</td></tr>"
    )


def _commands(url: str, profiles: Sequence[str]) -> Iterator[str]:
    if "heap" in profiles:
        yield f"go tool pprof -http=: '{url}heap'"
    if "profile" in profiles:
        yield f"go tool pprof -http=: '{url}profile?seconds={_SECONDS}'"
    if "heap" in profiles:
        yield f"curl '{url}heap?format=top'"
    yield f"curl '{url}goroutine?debug=2'"


_Fact = tuple[str, str, str]


def _process(process: Mapping[str, float], heap: Mapping[str, float]) -> Iterator[_Fact]:
    resident, seen = process.get("resident_bytes"), process.get("heap_bytes")
    if resident is not None:
        yield "resident set size", _bytes(resident), "memory of this process, by the kernel"
    if seen is not None:
        kind = "estimated from samples" if "sample_bytes" in heap else "exact"
        yield "Python heap in use", _bytes(seen), f"allocated since the agent's start; {kind}"
    if resident is not None and seen is not None:
        yield (
            "the rest",
            _bytes(resident - seen),
            "what no heap profile shows: the interpreter and its libraries, memory that C code "
            "does not get from Python's allocators, stacks of threads, what was allocated before "
            "the agent's start, and what is free and not given back to the system",
        )
    for key, what in (("seconds", "process runs for"), ("agent_seconds", "agent runs for")):
        if key in process:
            yield what, _duration(process[key]), ""


def _engines(
    engines: Mapping[str, str],
    fallbacks: Mapping[str, str],
    stats: Mapping[str, Mapping[str, float]],
) -> Iterator[_Fact]:
    for room, engine in engines.items():
        yield f"{room} engine", engine, _ENGINES.get(engine, "")
        if room in fallbacks:
            yield f"{room}: not native because", "", fallbacks[room]
    if "sample_bytes" in stats.get("heap", {}):
        every = stats["heap"]["sample_bytes"]
        yield "heap rate", _bytes(every), "allocated between two samples, on average"
    if "hz" in stats.get("stacks", {}):
        yield "stacks rate", f"{stats['stacks']['hz']:.3g} Hz", "looks a second"


def _losses(stats: Mapping[str, Mapping[str, float]]) -> Iterator[_Fact]:
    for room, known in _LOSSES.items():
        for key, what in known.items():
            if key in stats.get(room, {}):
                yield f"{room}: {key}", f"{stats[room][key]:,.0f}", what


def _rest(stats: Mapping[str, Mapping[str, float]]) -> Iterator[_Fact]:
    for room, numbers in stats.items():
        for key, value in numbers.items():
            told = room == "process" or key in _LOSSES.get(room, {})
            if not told and key not in ("sample_bytes", "hz"):
                yield f"{room}: {key.replace('_', ' ')}", f"{value:,.10g}", ""


def _table(title: str, facts: Iterator[_Fact]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{escape(value)}</td>'
        f"<td>{escape(what)}</td></tr>"
        for name, value, what in facts
    )
    if not rows:
        return ""
    name = title.lower().replace(" ", "-")
    return (
        f'<h2 id="{name}">{title}</h2>\n<table class="facts" aria-labelledby="{name}"><tbody>\n'
        f"{rows}\n</tbody></table>"
    )


def _bytes(value: float) -> str:
    return label(round(value), "bytes")


def _duration(seconds: float) -> str:
    """The two largest units of a duration, as in `3 d 4 h`."""
    left = round(seconds)
    units: list[str] = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or units:
            units.append(f"{count} {name}")
    return " ".join(units[:2]) or "0 s"
