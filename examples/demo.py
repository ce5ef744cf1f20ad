"""`make demo`: find a real leak in a running service, through its debug endpoints alone.

Starts leaky_service.py, drives load through HTTP, captures two heap profiles and a CPU
profile, and prints what grew between the two, by line and per message.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pyprof_agent import Frame, Profile
from pyprof_agent.formats.pprof import decode
from pyprof_agent.profile import subtract

HERE = Path(__file__).resolve().parent
BATCH = 20_000
WARM_UP_BATCHES = 1
LOAD_BATCHES = 50
LOAD_BATCHES_TRACEMALLOC = 2
"""Its service is slow, and it counts every block, so that fewer messages do."""

SAMPLE_BYTES = 16384
"""A service would have 524288, and its leak hours to show; the demo has seconds."""

CPU_SECONDS = 5

console = Console(highlight=False)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Find a leak in a running service.")
    parser.add_argument("--output", type=Path, default=HERE.parent / "demo-profiles")
    output: Path = parser.parse_args().output
    output.mkdir(exist_ok=True)
    with service() as client:
        say(f"A service is running on {client.base_url}, with the agent mounted in it.")
        load(client, "Messages, all received  ", WARM_UP_BATCHES)
        client.delete("/receiver").raise_for_status()
        say("Its receiver goes away. From now on its channel leaks, and nobody knows.")
        load(client, "Messages, none received ", WARM_UP_BATCHES)

        before = fetch(client, "heap?gc=1", output / "heap-before.pb.gz")
        cpu: list[Profile] = []
        capture = threading.Thread(
            target=lambda: cpu.append(
                fetch(client, f"profile?seconds={CPU_SECONDS}", output / "cpu.pb.gz")
            )
        )
        capture.start()
        batches = LOAD_BATCHES if before.period > 1 else LOAD_BATCHES_TRACEMALLOC
        load(client, "More, none received     ", batches)
        after = fetch(client, "heap?gc=1", output / "heap-after.pb.gz")
        capture.join()
    report_growth(subtract(after, before), BATCH * batches)
    report_cpu(cpu[0])
    report_commands(output)


@contextmanager
def service() -> Iterator[httpx.Client]:
    """The example service in a process of its own, and a client for it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, str(HERE / "leaky_service.py"), "--port", str(port)]
    environ = {"PYPROF_AGENT_HEAP_SAMPLE_BYTES": str(SAMPLE_BYTES), **os.environ}
    process = subprocess.Popen(command, env=environ)
    # uvicorn closes a connection that rests for 5 s, which is how long httpx keeps one.
    limits = httpx.Limits(keepalive_expiry=2)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                client.get("/ping").raise_for_status()
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the example service did not start; see above") from None
                time.sleep(0.1)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait()


def load(client: httpx.Client, title: str, batches: int) -> None:
    """Send messages, with a progress bar."""
    with Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        task = progress.add_task(title, total=batches * BATCH)
        for _ in range(batches):
            client.post("/messages", params={"count": BATCH}).raise_for_status()
            progress.advance(task, BATCH)


def fetch(client: httpx.Client, path: str, file: Path) -> Profile:
    """Get a profile from the endpoints and keep it as a file."""
    response = client.get(f"/debug/pprof/{path}")
    while response.status_code == httpx.codes.TOO_MANY_REQUESTS:  # gc=1 is served once in 10 s
        time.sleep(int(response.headers["retry-after"]))
        response = client.get(f"/debug/pprof/{path}")
    response.raise_for_status()
    file.write_bytes(response.content)
    return decode(response.content)


def report_growth(growth: Profile, messages: int) -> None:
    """Print which lines hold more than before, per message, and name the leak."""
    space, objects = growth.column("inuse_space"), growth.column("inuse_objects")
    held: Counter[Frame] = Counter()
    count: Counter[Frame] = Counter()
    for sample in growth.samples:
        held[sample.stack[0]] += int(sample.values[space])
        count[sample.stack[0]] += int(sample.values[objects])
    table = Table(title=f"Heap growth over {messages:,} messages")
    for heading in ("bytes", "objects", "bytes a message"):
        table.add_column(heading, justify="right")
    table.add_column("allocated in", overflow="fold")
    top = held.most_common(5)
    for frame, grown in top:
        where = frame.function
        if frame.filename:
            where += f"\n{shorten(frame.filename)}:{frame.line}"
        table.add_row(f"{grown:,}", f"{count[frame]:,}", f"{grown / messages:.1f}", where)
    console.print(table)
    leak, grown = top[0]
    # The standard error of bytes estimated from samples; tracemalloc's period is 1: no samples.
    error = math.sqrt(grown * growth.period) if growth.period > 1 else 0
    margin = f" ± {2 * error / messages:.0f}" if error else ""
    console.print(
        f"[bold]The leak:[/bold] {leak.function} keeps "
        f"[bold]{grown / messages:.0f}{margin} bytes a message[/bold], allocated at\n"
        f"{shorten(leak.filename)}:{leak.line}: "
        f"{Path(leak.filename).read_text().splitlines()[leak.line - 1].strip()}\n",
        soft_wrap=True,
    )


def report_cpu(profile: Profile) -> None:
    """Print where the CPU time went."""
    column = profile.column("cpu")
    spent: Counter[str] = Counter()
    for sample in profile.samples:
        spent[sample.stack[0].function] += int(sample.values[column])
    total = profile.total("cpu")
    table = Table(
        title=f"CPU: {total / 1e9:.2f} s in {profile.duration_nanos / 1e9:.1f} s, by function"
    )
    table.add_column("share", justify="right")
    table.add_column("function", overflow="fold")
    for function, nanoseconds in spent.most_common(5):
        table.add_row(f"{nanoseconds / total:.1%}", function)
    console.print(table)


def report_commands(output: Path) -> None:
    """Print how to open what was saved, with Go's own pprof where it is there."""
    arguments = ["-base", str(output / "heap-before.pb.gz"), str(output / "heap-after.pb.gz")]
    go = shutil.which("go", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if go is not None:
        say("What Go's own pprof says of it (its first use compiles it, half a minute):")
        command = [go, "tool", "pprof", "-top", "-nodecount=5", *arguments]
        environ = {**os.environ, "GOTOOLCHAIN": "local", "GOPROXY": "off"}
        result = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
        console.print(result.stdout or result.stderr, markup=False, soft_wrap=True)
    say("The profiles are saved. To open them in a browser:")
    console.print(f"go tool pprof -http=: {' '.join(map(shorten, arguments))}", soft_wrap=True)
    console.print(f"go tool pprof -http=: {shorten(str(output / 'cpu.pb.gz'))}", soft_wrap=True)


def shorten(path: str) -> str:
    """The path from here, where that is shorter."""
    return min(path, os.path.relpath(path), key=len) if os.path.isabs(path) else path


def say(text: str) -> None:
    """Print a line of the story."""
    console.print(f"[cyan]{text}[/cyan]")


if __name__ == "__main__":
    main()
