"""Load on a service: `wrk` if it is there, else a small client of our own in its own process."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.numbers import percentile

CONNECTIONS = 8

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}

_LUA = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[{body}]==]
"""


class LoadError(Exception):
    """The load could not be put on, or not every answer was good."""


@dataclass(frozen=True)
class Load:
    """What the clients saw.

    rate: requests per second
    p99: milliseconds that 99 of 100 requests took at most
    requests: answers in all
    """

    rate: float
    p99: float
    requests: int


def parse_wrk(text: str) -> Load:
    """The result that `wrk --latency` prints.

    Raises LoadError if there is none, or if requests failed.
    """
    failed = re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", text)
    if failed:
        raise LoadError(failed[0])
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", text, re.MULTILINE)
    p99 = re.search(r"^\s+99%\s+([\d.]+)(us|ms|s|m)\b", text, re.MULTILINE)
    requests = re.search(r"(\d+) requests in ", text)
    if not (rate and p99 and requests):
        raise LoadError("wrk printed no result")
    return Load(float(rate[1]), float(p99[1]) * _UNITS[p99[2]], int(requests[1]))


def load_tool() -> str:
    """The name of what puts on the load."""
    return "wrk" if shutil.which("wrk") else "a client in Python"


def put_load(port: int, path: str, body: bytes, seconds: float, folder: str) -> Load:
    """Post the body over and over on several connections.

    folder: for files that are needed

    Raises LoadError.
    """
    if shutil.which("wrk"):
        script = Path(folder) / "post.lua"
        script.write_text(_LUA.format(body=body.decode()))
        words = ["wrk", "--latency", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s"]
        return parse_wrk(_output([*words, "-s", str(script), f"http://127.0.0.1:{port}{path}"]))
    file = Path(folder) / "body.json"
    file.write_bytes(body)
    boot = "import sys; sys.path.append(sys.argv[1]); from tests.bench.load import main; main()"
    root = Path(__file__).resolve().parents[2]
    words = [sys.executable, "-P", "-c", boot, str(root), str(port), path, str(file), str(seconds)]
    result = json.loads(_output(words))
    return Load(result["rate"], result["p99"], result["requests"])


def _output(words: list[str]) -> str:
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        raise LoadError("the load did not end") from None
    if result.returncode != 0:
        raise LoadError(f"the load ended with status {result.returncode}")
    return result.stdout


async def _client(port: int, request: bytes, until: float, took: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (began := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if not head.startswith(b"HTTP/1.1 200 ") or length is None:
            raise LoadError(f"the service answered {head.splitlines()[0].decode()}")
        await reader.readexactly(int(length[1]))
        took.append(time.perf_counter() - began)
    writer.close()


async def post_all(port: int, path: str, body: bytes, seconds: float) -> Load:
    """What `put_load` does without wrk."""
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    took: list[float] = []
    began = time.perf_counter()
    clients = (_client(port, request, began + seconds, took) for _ in range(CONNECTIONS))
    await asyncio.gather(*clients)
    return Load(len(took) / (time.perf_counter() - began), 1e3 * percentile(took, 0.99), len(took))


def main() -> None:
    """The client's process: ROOT PORT PATH FILE SECONDS; prints a Load as JSON."""
    _, port, path, file, seconds = sys.argv[1:]
    load = asyncio.run(post_all(int(port), path, Path(file).read_bytes(), float(seconds)))
    json.dump({"rate": load.rate, "p99": load.p99, "requests": load.requests}, sys.stdout)
