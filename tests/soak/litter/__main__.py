"""`make soak-stacks`: example services with littered C stacks, at 100 Hz and at 1 kHz.

Each service runs in its own process and is asked for every endpoint in turn. None may end before
the soak does. All run at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyprof_agent.formats.pprof import decode
from tests.support import EXAMPLES, ROOT, compile_c, free_port, get, wait_until_answers

PATHS = (
    *("heap", "heap?debug=1", "heap?seconds=1", "heap?last=60", "heap?format=html"),
    *("allocs?format=top", "delta_heap", "profile?seconds=1", "profile?last=10", "wall?last=30"),
    *("profile?last=20&format=speedscope", "wall?seconds=1&format=folded", "fgprof?seconds=1"),
    *("goroutine", "goroutine?debug=2", "threadcreate", "block", "mutex", "leaks"),
    *("symbol?0x1", ""),
)
"""All that is served by default, in most ways."""

COLLECTING = "heap?gc=1"
"""What a side port does not serve."""

PAUSE = 2.0
"""Seconds between two rounds of all paths: the machine has to do other things too."""

WARM_UP = 10.0
"""Before what it holds is looked at for the first time."""


@dataclass
class Service:
    """An example in a process, and what came of it."""

    name: str
    hz: int
    folder: Path
    library: Path
    port: int = field(default_factory=free_port)
    debug_port: int = field(default_factory=free_port)
    scrapes: int = 0
    at_first: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def stats_file(self) -> Path:
        """Where it tells what its sampler has done."""
        return self.folder / f"{self.name}-{self.hz}.json"

    @property
    def has_side_port(self) -> bool:
        """Whether its endpoints have a port of their own."""
        return self.name == "flask_app"

    @property
    def url(self) -> str:
        """Of its endpoints."""
        port = self.debug_port if self.has_side_port else self.port
        return f"http://127.0.0.1:{port}/debug/pprof/"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = {
            "leaky_service": [str(EXAMPLES / "leaky_service.py"), "--port", str(self.port)],
            "flask_app": [
                *(str(EXAMPLES / "flask_app.py"), "--port", str(self.port)),
                *("--debug-port", str(self.debug_port)),
            ],
        }.get(
            self.name,
            [
                *("uvicorn", "--app-dir", str(EXAMPLES), f"{self.name}:app"),
                *("--port", str(self.port), "--log-level", "warning"),
            ],
        )
        wrapper = [sys.executable, "-m", "tests.soak.litter.service"]
        self.log = (self.folder / f"{self.name}-{self.hz}.log").open("w+")
        self.process = subprocess.Popen(
            [*wrapper, str(self.library), str(self.stats_file), *program],
            env={
                **os.environ,
                "PYPROF_AGENT_STACK_HZ": str(self.hz),
                "PYPROF_AGENT_STACK_MAX_CPU": "0.25",  # by default it would look less often
                "PYPROF_AGENT_STACK_ENGINE": "native",
                "PYPROF_AGENT_HEAP_ENGINE": "native",
            },
            stdout=self.log,
            stderr=self.log,
            text=True,
            cwd=ROOT,
        )
        wait_until_answers(self.url, self.process, seconds=120)

    def scrape(self, until: float) -> None:
        """Ask for everything until it is time, or it has ended."""
        begin = time.monotonic()
        while time.monotonic() < until and not self.problems:
            asked = "its own route"
            try:
                self.work()
                for path in PATHS if self.has_side_port else (*PATHS, COLLECTING):
                    asked = path
                    body = get(self.url + path, timeout=120)
                    if path == "heap":
                        decode(body)
                    self.scrapes += 1
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != 429:  # all garbage is collected once in ten seconds, and no more
                    self.problems.append(f"{asked!r}: {error}")
            except OSError as error:
                self.problems.append(f"no answer to {asked!r}: {error}")
            if not self.at_first and time.monotonic() - begin > WARM_UP:
                self.at_first = self.resident()
            time.sleep(PAUSE)

    def work(self) -> None:
        """Have it do its own work."""
        if self.name == "leaky_service":
            messages = urllib.request.Request(
                f"http://127.0.0.1:{self.port}/messages?count=500", method="POST"
            )
            urllib.request.urlopen(messages, timeout=120).close()
        else:
            get(f"http://127.0.0.1:{self.port}/", timeout=120)

    def resident(self) -> int:
        """Bytes of it that are in memory; 0 if it has ended."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGESIZE")

    def finish(self) -> str:
        """End it; a line of what there was."""
        resident = self.resident()
        if (status := self.process.poll()) is not None:
            self.problems.append(f"it ended by itself, with {status}")
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.problems.append("it did not end when it was told to")
        if self.problems:
            self.log.seek(0)
            self.problems.append(self.log.read()[-2000:])
        stats: dict[str, Any] = (
            json.loads(self.stats_file.read_text()) if self.stats_file.exists() else {}
        )
        return (
            f"{self.name} at {self.hz} Hz: {self.scrapes} scrapes, {stats.get('ticks', 0)} looks, "
            f"{stats.get('retried', 0)} walks torn, {stats.get('unreadable', 0)} given up, "
            f"{self.at_first >> 20} MiB at first, {resident >> 20} at last: "
            f"{'; '.join(self.problems) or 'alive'}"
        )


def compile_litter(folder: Path) -> Path:
    """The library that leaves it."""
    return compile_c(
        folder / "litter.so",
        Path(__file__).with_name("litter.c"),
        flags=[
            *("-shared", "-fPIC", "-O0", f"-I{ROOT / 'pyprof_agent' / '_native'}"),
            *("-isystem", sysconfig.get_path("include")),
        ],
    )


def soak(seconds: float, services: list[tuple[str, int]]) -> bool:
    """Run the services for so long; return whether all were alive at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = compile_litter(folder)
        running = [Service(name, hz, folder, library) for name, hz in services]
        try:
            for service in running:
                service.start()
            until = time.monotonic() + seconds
            scrapers = [
                threading.Thread(target=service.scrape, args=(until,)) for service in running
            ]
            for scraper in scrapers:
                scraper.start()
            for scraper in scrapers:
                scraper.join()
        finally:
            for service in running:
                if hasattr(service, "process"):
                    print(service.finish(), flush=True)
    return not any(service.problems for service in running)


SERVICES = (
    *(("leaky_service", 100), ("leaky_service", 1000)),
    *(("fastapi_app", 1000), ("flask_app", 1000)),
)


def main() -> int:
    """Soak as the arguments say; 0 if nothing ended that should not have."""
    parser = argparse.ArgumentParser(prog="make soak-stacks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    options = parser.parse_args()
    print(f"CPython {platform.python_version()}, {options.seconds:.0f} s", flush=True)
    return 0 if soak(options.seconds, list(SERVICES)) else 1


if __name__ == "__main__":
    sys.exit(main())
