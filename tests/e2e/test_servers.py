"""Real servers with several processes: uvicorn workers, gunicorn with and without preload."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from pyprof_agent.formats.pprof import decode
from tests.support import EXAMPLES, free_port, get, running

COMMANDS: dict[str, Sequence[str]] = {
    "uvicorn workers": ("uvicorn", "--app-dir", str(EXAMPLES), "--workers=2", "--port={port}"),
    "gunicorn": ("gunicorn", "--chdir", str(EXAMPLES), "--workers=2", "--bind=127.0.0.1:{port}"),
    "gunicorn preload": (
        *("gunicorn", "--chdir", str(EXAMPLES), "--workers=2", "--preload"),
        "--bind=127.0.0.1:{port}",
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", COMMANDS)
def test_every_worker_samples_itself(kind: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", *(word.format(port=port) for word in COMMANDS[kind])]
    command += ["starlette_app:app"]
    if "gunicorn" in kind:
        command += ["--worker-class=uvicorn_worker.UvicornWorker", "--graceful-timeout=5"]
    base = f"http://127.0.0.1:{port}"
    # The examples allocate little: every block is a sample.
    env = {"PYPROF_AGENT_HEAP_SAMPLE_BYTES": "1"}
    with running(command, ready=base, env=env) as process:
        for _ in range(4):  # whichever worker answers
            assert decode(get(f"{base}/debug/pprof/heap")).total("inuse_space") > 0
            profile = decode(get(f"{base}/debug/pprof/wall?seconds=1"))
            main = [s for s in profile.samples if s.label("thread") == "MainThread"]
            assert sum(sample.values[1] for sample in main) > 0.5e9
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    assert process.returncode in (0, -15)
