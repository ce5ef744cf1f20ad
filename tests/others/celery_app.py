"""Tasks of a worker that forks, with the agent started before it does."""

from __future__ import annotations

import os
import time
from typing import Any

import celery

import pyprof_agent

agent = pyprof_agent.start()
folder = os.environ["BROKER"]
app: Any = celery.Celery("celery_app", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "processed_folder": f"{folder}/done",
}
kept: list[bytearray] = []


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(100))


def seen(profile: pyprof_agent.Profile, column: str, function: str) -> float:
    """What a profile has in a function itself."""
    value = [each.type for each in profile.sample_types].index(column)
    return sum(
        sample.values[value]
        for sample in profile.samples
        if sample.stack[0].function.endswith(f".{function}")
    )


@app.task  # type: ignore[untyped-decorator]
def work() -> tuple[int, float, float]:
    """The process, the CPU time (ns) of `burn` and the bytes of this function."""
    window = agent.begin("profile")
    kept.append(bytearray(5_000_000))
    burn(0.5)
    burned = seen(window.end(), "cpu", "burn")
    return os.getpid(), burned, seen(agent.capture("heap"), "inuse_space", "work")
