"""An application that says what the agent knows of the process that answers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import pyprof_agent

agent = pyprof_agent.start(heap_sample_bytes=16384)


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(100))


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    window = agent.begin("profile")
    burn(0.5)
    answer = {
        "pid": os.getpid(),
        "running": agent.running,
        "burned": sum(
            sample.values[1]
            for sample in window.end().samples
            if any(frame.function.endswith(".burn") for frame in sample.stack)
        ),
        "heap": len(agent.capture("heap").samples),
        "threads": len(agent.capture("goroutine").samples),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
