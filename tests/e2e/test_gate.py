"""The gate beside a load test of the example service: it fails the leak and passes the cure."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from pyprof_agent.formats.pprof import decode
from pyprof_agent.sources import heap_native
from tests.support import ROOT, free_port, running

pytestmark = [
    pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable() or "-"),
    pytest.mark.timeout(300),
]

EXAMPLE = ROOT / "examples" / "leaky_service.py"


def gate(tmp_path: Path, *options: str, leak: bool, catalogue: int = 0) -> tuple[int, str]:
    """Exit status and output of a gate beside a load of messages.

    catalogue: MiB that the service has in use for good
    """
    port = free_port()
    base, over = f"http://127.0.0.1:{port}", threading.Event()

    def ask(path: str, method: str) -> None:
        request = urllib.request.Request(f"{base}{path}", method=method)
        urllib.request.urlopen(request, timeout=30).close()

    def load() -> None:
        while not over.wait(0.02):
            ask("/messages?count=100", "POST")

    with running(
        [sys.executable, str(EXAMPLE), "--port", str(port), "--catalogue", str(catalogue)],
        ready=f"{base}/ping",
        env={"PYPROF_AGENT_HEAP_SAMPLE_BYTES": "256"},
    ):
        if leak:
            ask("/receiver", "DELETE")
        thread = threading.Thread(target=load)
        thread.start()
        try:
            result = subprocess.run(
                [*(sys.executable, "-m", "pyprof_agent", "gate", base, *options), "-o", tmp_path],
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
        finally:
            over.set()
            thread.join()
    assert result.stderr.startswith("pyprof-agent: watching for "), result.stderr
    return result.returncode, result.stdout


SHORT = ("--warm-up", "2s", "--every", "0.2s")
PER_REQUEST = ("--max-per-request", "16B")
DURATIONS = ("11s", "25s", "60s")
"""A busy machine has fewer looks in a second, of which the gate says that they do not tell."""


def told(tmp_path: Path, *options: str, leak: bool, catalogue: int = 0) -> tuple[int, str]:
    """The same of the shortest run that can tell."""
    status, output = 2, ""
    for duration in DURATIONS:
        status, output = gate(
            tmp_path, "--duration", duration, *SHORT, *options, leak=leak, catalogue=catalogue
        )
        if status != 2:
            break
    return status, output


def test_it_fails_the_leak_and_names_it(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    status, output = told(tmp_path, *PER_REQUEST, "--json", str(answer), leak=True)
    assert status == 1, output
    assert output.startswith("failed: it surely grows by more than 16 B a request")
    suspect = json.loads(answer.read_text())["suspects"][0]
    lines = (ROOT / "examples" / "leaky_channel.py").read_text().splitlines()
    assert "ENVELOPE.pack" in lines[suspect["line"] - 1]
    assert suspect["bytes_per_request"]["estimate"] == pytest.approx(128, rel=0.05)
    growth = decode((tmp_path / "growth.pb.gz").read_bytes())
    assert growth.total("inuse_space") > 0
    assert decode((tmp_path / "after.pb.gz").read_bytes()).total("inuse_space") > decode(
        (tmp_path / "before.pb.gz").read_bytes()
    ).total("inuse_space")


def test_it_passes_the_cure(tmp_path: Path) -> None:
    status, output = told(tmp_path, *PER_REQUEST, leak=False)
    assert status == 0, output
    assert output.startswith("passed: it surely grows by less than 16 B a request")


@pytest.mark.thorough
@pytest.mark.parametrize(("leak", "answer"), [(True, "failed"), (False, "passed")])
def test_growth_by_the_hour_is_told_of_a_service_that_has_memory_in_use(
    tmp_path: Path, leak: bool, answer: str
) -> None:
    status, output = told(tmp_path, "--max-growth", "100%/h", leak=leak, catalogue=100)
    assert (status, output.split(":")[0]) == (int(leak), answer), output
