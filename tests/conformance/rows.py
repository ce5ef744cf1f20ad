"""The HTTP surface of Go's net/http/pprof, a row for each request: what Go answers, and what we do.

Where a row has `ours`, that differs on purpose, and `why` is the row of the table "What differs
from Go" in docs/endpoints.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.conformance.answers import AT_ONCE, LATER, WAITS, Answer

NOSNIFF = {"x-content-type-options": "nosniff"}
PLAIN = {"content-type": "text/plain; charset=utf-8", **NOSNIFF}
MEMORY = "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes"
PERIOD = {"heap": "space/bytes", "allocs": "space/bytes", "delta_heap": "space/bytes"}
SHOWN = {"allocs": "alloc_space", "heap": "inuse_space", "delta_heap": "inuse_space"}


@dataclass(frozen=True)
class Row:
    """A request, and the answers to it.

    ask: method and path below `/debug/pprof/`, or an absolute path; `ADDRESS` is one of a frame
    ours: our answer, where it is not Go's
    why: where the documentation says so
    mount: which of our applications is asked
    alone: Go allows one of them at once, so that it needs a program of its own
    before: a path that is asked for just before
    twice: it is asked for twice at once, and the one that fares worse counts
    """

    ask: str
    go: Answer
    ours: Answer | None = None
    why: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    mount: str = ""
    alone: bool = False
    before: str = ""
    twice: bool = False

    @property
    def id(self) -> str:
        """A name for the row."""
        notes = [f"{name}: {value}" for name, value in self.headers.items()]
        notes += [self.mount] if self.mount else []
        notes += ["a body"] if self.body else []
        notes += ["again"] if self.before else []
        notes += ["twice at once"] if self.twice else []
        return f"{self.ask} ({', '.join(notes)})" if notes else self.ask


def text(body: str) -> Answer:
    return Answer(200, PLAIN, body)


def page() -> Answer:
    headers = {"content-type": "text/html; charset=utf-8", **NOSNIFF}
    return Answer(200, headers, "a page of links")


def error(status: int, message: str, **headers: str) -> Answer:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {**PLAIN, "x-go-pprof": "1", **more}, message)


def refused(allow: str = "GET, HEAD") -> Answer:
    return Answer(405, {**PLAIN, "allow": allow}, "Method Not Allowed")


def profile(name: str, *, delta: bool = False, filename: str = "") -> Answer:
    columns = {
        **dict.fromkeys(("heap", "allocs", "delta_heap"), MEMORY),
        **dict.fromkeys(("profile", "cpu"), "samples/count cpu/nanoseconds"),
        **dict.fromkeys(("wall", "fgprof"), "samples/count wall/nanoseconds"),
        **dict.fromkeys(("block", "mutex"), "contentions/count delay/nanoseconds"),
        **dict.fromkeys(("delta_block", "delta_mutex"), "contentions/count delay/nanoseconds"),
    }.get(name, f"{name}/count")
    windows = ("profile", "cpu", "wall", "fgprof")
    last = columns.split()[-1]
    first = columns.split()[0]
    period = PERIOD.get(name, last if name in windows else first)
    shown = SHOWN.get(name, last.split("/")[0])
    window = ", of a window" if delta or name in windows else ""
    return Answer(
        200,
        {
            "content-disposition": f'attachment; filename="{filename or name}{"-delta" * delta}"',
            "content-type": "application/octet-stream",
            **NOSNIFF,
        },
        f"profile {columns} [{shown}] per {period}{window}",
    )


def head(answer: Answer, body: str = AT_ONCE) -> Answer:
    return replace(answer, body=body)


UNKNOWN = error(404, "Unknown profile")
INVALID = error(400, 'invalid value for "seconds" - must be a positive integer')
UNSUPPORTED = error(400, '"seconds" parameter is not supported for this profile type')
INCOMPATIBLE = error(400, "seconds and debug params are incompatible")
WAITING = Answer(0, {}, WAITS)
NO_PAGE = Answer(404, PLAIN, "404 page not found")
NOT_ALLOWED = Answer(405, {**refused().headers, "x-go-pprof": "1"}, "Method Not Allowed")

SNAPSHOTS = ("heap", "allocs", "goroutine", "threadcreate", "block", "mutex")


def texts(name: str) -> Answer:
    return text(f"{'heap' if name == 'allocs' else name} text")


def longest(seconds: int) -> Answer:
    return error(400, f'"seconds" is {seconds}; at most 300 are served')


INDEX = [
    Row("GET ", page()),
    Row("GET ?debug=1", page()),
    Row("GET /debug/pprof", Answer(307, {"location": "/debug/pprof/"}, "a redirect")),
    Row("HEAD ", head(page())),
]

PROFILES = [
    *(Row(f"GET {name}", profile(name)) for name in SNAPSHOTS),
    *(Row(f"GET {name}?debug=1", texts(name)) for name in SNAPSHOTS),
    *(
        Row(f"GET {name}?seconds=1", profile(name, delta=True))
        for name in SNAPSHOTS
        if name != "allocs"
    ),
    Row(
        "GET allocs?seconds=1",
        replace(
            profile("allocs", delta=True),
            body=profile("heap", delta=True).body,
        ),
        profile("allocs", delta=True),
        "`allocs?seconds=N`",
    ),
    *(Row(f"HEAD {name}", head(profile(name))) for name in SNAPSHOTS),
    *(
        Row(f"GET {name}?debug=2", texts(name))
        for name in ("heap", "allocs", "threadcreate", "block", "mutex")
    ),
    Row(
        "GET goroutine?debug=2",
        text("a panic's dump"),
        text("a dump of threads and tasks"),
        "`goroutine?debug=2`",
    ),
    Row("HEAD heap?debug=1", head(text(""))),
    Row("HEAD heap?seconds=x", head(INVALID)),
    Row(
        "HEAD heap?seconds=3",
        head(profile("heap", delta=True), LATER),
        head(profile("heap", delta=True)),
        "HEAD",
    ),
]

CPU = [
    Row("GET profile?seconds=1", profile("profile"), alone=True),
    Row("GET profile?seconds=1&debug=1", profile("profile"), alone=True),
    Row("GET profile?seconds=1&seconds=x", profile("profile"), alone=True),
    *(
        Row(f"GET profile{query}", WAITING, alone=True)
        for query in ("", "?seconds=", "?seconds=abc", "?seconds=0", "?seconds=-1", "?seconds=1.5")
    ),
    Row("GET profile?seconds=99999999999999999999", WAITING, alone=True),
    Row("GET profile?seconds=1;debug=1", WAITING, alone=True),
    Row("GET profile?seconds=301", WAITING, longest(301), "longest window", alone=True),
    Row(
        "HEAD profile?seconds=3",
        head(profile("profile"), LATER),
        head(profile("profile")),
        "HEAD",
        alone=True,
    ),
    Row(
        "GET profile?seconds=1",
        error(500, "Could not enable CPU profiling: cpu profiling already in use"),
        profile("profile"),
        "`profile` twice at once",
        alone=True,
        twice=True,
    ),
]

PARAMETERS = [
    *(
        Row(f"GET heap?seconds={value}", INVALID)
        for value in ("0", "-1", "abc", "1.5", "1e3", "+1", "%201", "1_0", "0x1", "9" * 20)
    ),
    Row("GET heap?seconds=%2B1", profile("heap", delta=True)),
    Row("GET heap?seconds=1&seconds=x", profile("heap", delta=True)),
    Row("GET heap?seconds=x&seconds=1", INVALID),
    Row("GET heap?seconds=", profile("heap")),
    Row("GET heap?seconds=1;debug=1", profile("heap")),
    Row("GET heap?seconds=%zz", profile("heap")),
    Row("GET heap?seconds=1&debug=1", INCOMPATIBLE),
    Row("GET heap?seconds=1&debug=-1", INCOMPATIBLE),
    Row("GET heap?seconds=x&debug=1", INVALID),
    Row("GET heap?seconds=1&debug=0", profile("heap", delta=True)),
    Row("GET heap?seconds=1&debug=x", profile("heap", delta=True)),
    Row("GET heap?seconds=301", WAITING, longest(301), "longest window"),
    *(
        Row(f"GET heap?debug={value}", profile("heap"))
        for value in ("", "0", "abc", "1.5", "0x1", "%2B0", "0&debug=1")
    ),
    *(
        Row(f"GET heap?debug={value}", texts("heap"))
        for value in ("-1", "%2B1", "007", "9" * 20, "1&debug=0")
    ),
    Row(
        "GET goroutine?debug=-1",
        Answer(200, PLAIN, profile("goroutine").body),
        texts("goroutine"),
        "`debug` below 0",
    ),
    Row("GET heap?gc=0", profile("heap")),
    Row("GET heap?gc=abc", profile("heap")),
    Row("GET heap?gc=1", profile("heap")),
    Row("GET heap?gc=1&debug=1", texts("heap"), mount="open"),
    Row("GET allocs?gc=1", profile("allocs")),
    Row("GET heap?junk=1&&=&%zz", profile("heap")),
    Row("GET heap", profile("heap"), headers={"Accept-Encoding": "gzip"}),
    Row("GET heap?debug=1", texts("heap"), headers={"Accept-Encoding": "gzip"}),
]

OTHERS = [
    Row(
        "GET cmdline",
        text("arguments"),
        error(
            404,
            "cmdline is off, as arguments may hold secrets; "
            "make_asgi_app(cmdline=True) switches it on",
        ),
        "`cmdline`",
    ),
    Row(
        "GET leaks?format=proto",
        UNKNOWN,
        error(400, "\"format\" is 'proto'; use one of: text, json, html"),
        "`leaks`",
    ),
    Row("HEAD leaks", head(UNKNOWN), head(text("")), "`leaks`"),
    Row("GET cmdline", text("arguments"), mount="open"),
    Row("HEAD cmdline", head(text("")), mount="open"),
    Row("GET symbol", text("no symbol")),
    Row("GET symbol?0x1", text("no symbol")),
    Row("GET symbol?junk", text("no symbol")),
    Row("GET symbol?ADDRESS", text("one symbol")),
    Row("GET symbol?0x1+ADDRESS+junk+", text("one symbol")),
    Row("HEAD symbol", head(text(""))),
    Row("POST symbol", refused(), text("one symbol"), "POST to `symbol`", body="ADDRESS+0x1"),
    Row("GET nosuch", UNKNOWN),
    Row("GET nosuch?seconds=x", UNKNOWN),
    Row("GET nosuch?debug=1", UNKNOWN),
    Row("HEAD nosuch", head(UNKNOWN)),
    Row("GET Heap", UNKNOWN),
    Row("GET heap/x", UNKNOWN),
    Row("GET %2e%2e/heap", UNKNOWN),
    Row("GET heap%00", UNKNOWN),
    Row("GET heap/", UNKNOWN, profile("heap"), "trailing slash, as in `heap/`"),
    Row("GET own", profile("own"), UNKNOWN, "a program's own profiles"),
    Row("GET own?debug=1", text("own text"), UNKNOWN, "a program's own profiles"),
    Row("GET own?seconds=1", UNSUPPORTED, UNKNOWN, "a program's own profiles"),
    Row("GET goroutineleak", profile("goroutineleak"), UNKNOWN, "`trace`, `goroutineleak`"),
    Row(
        "GET trace?seconds=0.1",
        Answer(200, profile("trace").headers, "a trace"),
        UNKNOWN,
        "`trace`, `goroutineleak`",
        alone=True,
    ),
]

ONLY_HERE = [
    *(
        Row(f"GET {name}?seconds=1", UNKNOWN, profile(name), "`wall`, `cpu`, `fgprof`")
        for name in ("wall", "cpu", "fgprof")
    ),
    Row("GET /debug/fgprof?seconds=1", NO_PAGE, profile("fgprof"), "`wall`, `cpu`, `fgprof`"),
    *(
        Row(f"GET {name}", UNKNOWN, profile(name), "`delta_heap`, `delta_block`, `delta_mutex`")
        for name in ("delta_heap", "delta_block", "delta_mutex")
    ),
    Row(
        "GET delta_heap?seconds=1",
        UNKNOWN,
        UNSUPPORTED,
        "`delta_heap`, `delta_block`, `delta_mutex`",
    ),
]

FORMATTED = "`format`, `sample`"


def shown(name: str, kind: str, media_type: str, body: str) -> Answer:
    headers = {
        "content-disposition": f'{kind}; filename="{name}"',
        "content-encoding": "identity",
        "content-type": media_type,
        "vary": "Accept-Encoding",
        **NOSNIFF,
    }
    return Answer(200, headers, body)


FORMATS = [
    *(
        Row(f"GET heap?format={name}", profile("heap"), ours, FORMATTED)
        for name, ours in {
            "html": shown("heap.html", "inline", "text/html; charset=utf-8", "a flame graph"),
            "top": shown("heap.txt", "inline", PLAIN["content-type"], "a table"),
            "folded": shown("heap.folded", "inline", PLAIN["content-type"], "folded stacks"),
            "speedscope": shown(
                "heap.speedscope.json", "attachment", "application/json", "a file of speedscope"
            ),
            "svg": error(
                400, "\"format\" is 'svg'; use one of: proto, folded, speedscope, html, top"
            ),
        }.items()
    ),
    Row("GET heap?format=", profile("heap")),
    Row("GET heap?format=proto", profile("heap")),
    Row("GET heap?format=%zz", profile("heap")),
    Row(
        "GET heap?sample=alloc_space",
        profile("heap"),
        replace(profile("heap"), body=profile("allocs").body),
        FORMATTED,
    ),
    Row(
        "GET heap?sample=cpu",
        profile("heap"),
        error(
            400,
            "\"sample\" is 'cpu'; heap has: alloc_objects, alloc_space, inuse_objects, inuse_space",
        ),
        FORMATTED,
    ),
    *(
        Row(
            f"GET heap?{name}={value}&debug=1",
            texts("heap"),
            error(400, f"{name} and debug params are incompatible"),
            FORMATTED,
        )
        for name, value in (("format", "top"), ("sample", "inuse_space"))
    ),
    Row(
        "GET heap",
        profile("heap"),
        Answer(
            200,
            {**profile("heap").headers, "content-encoding": "zstd"},
            f"zstd of {profile('heap').body}",
        ),
        "`Content-Encoding` of a profile",
        headers={"Accept-Encoding": "gzip, zstd"},
    ),
    Row("GET heap", profile("heap"), headers={"Accept-Encoding": "gzip, *"}),
]

METHODS = [
    *(
        Row(f"{method} {path}", refused(), NOT_ALLOWED, "405")
        for method, path in (
            *(("POST", path) for path in ("", "heap", "profile", "cmdline", "nosuch")),
            *((method, "heap") for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")),
        )
    ),
    Row("POST heap", refused(), NOT_ALLOWED, "405", body="seconds=1"),
    Row("POST trace", refused(), NOT_ALLOWED, "405"),
]

STRANGE_HOST = error(
    403,
    "the Host header 'shop.example' is no name of the loopback interface; ask for localhost or "
    "127.0.0.1, or name it in access=Loopback(...)",
)
BASIC = 'Basic realm="pprof", charset="UTF-8"'

LIMITS = [
    Row(
        "GET heap",
        profile("heap"),
        STRANGE_HOST,
        "who may come in",
        headers={"Host": "shop.example"},
    ),
    Row(
        "GET heap",
        profile("heap"),
        error(
            403,
            "a page of another site may not ask for this; type the address into the browser, "
            "or use curl",
        ),
        "who may come in",
        headers={"Sec-Fetch-Site": "cross-site"},
    ),
    Row(
        "GET heap",
        profile("heap"),
        error(
            401,
            "a valid user name and password are needed, as in http://USER:PASSWORD@HOST/",
            www_authenticate=BASIC,
        ),
        "who may come in",
        mount="closed",
    ),
    Row(
        "GET heap",
        profile("heap"),
        headers={"Authorization": "Basic c3JlOnNlY3JldA=="},
        mount="closed",
    ),
    Row(
        "GET heap?seconds=1",
        profile("heap", delta=True),
        error(
            429,
            "1 captures are under way, and no more are served at once; try again in N s",
            retry_after="N",
        ),
        "windows at once, `gc=1`",
        mount="single",
        twice=True,
    ),
    Row(
        "GET heap?gc=1",
        profile("heap"),
        error(
            429,
            "gc=1 is served once in 10 s, and it was less since the last one; try again in N s",
            retry_after="N",
        ),
        "windows at once, `gc=1`",
        mount="single",
        before="heap?gc=1",
    ),
    *(
        Row(
            f"GET {path}",
            profile("heap") if path == "heap" else text("no symbol"),
            error(503, "the agent is not running; call pyprof_agent.start() first"),
            "an agent that does not run",
            mount="idle",
        )
        for path in ("heap", "symbol")
    ),
]

ROWS = [*INDEX, *PROFILES, *CPU, *PARAMETERS, *OTHERS, *ONLY_HERE, *FORMATS, *METHODS, *LIMITS]
