"""Celery's prefork pool: children of billiard's, a fork of multiprocessing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

CALL = """
import time
import celery_app

results = [celery_app.work.delay() for _ in range(8)]
found = [result.get(timeout=60) for result in results]
assert len({pid for pid, _, _ in found}) == 2, found
for _, burned, kept in found:
    assert 0.3e9 < burned < 2.5e9 and kept >= 5_000_000, found
print("done")
"""


def test_every_child_of_the_pool_is_sampled(tmp_path: Path) -> None:
    for name in ("queue", "done", "results"):
        (tmp_path / name).mkdir()
    here = Path(__file__).parent
    env = {
        **os.environ,
        "BROKER": str(tmp_path),
        "PYTHONPATH": os.pathsep.join((str(here), str(ROOT))),
    }
    log = tmp_path / "log"
    with log.open("w") as written:
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "--app=celery_app", "worker", "--concurrency=2"),
                *("--loglevel=WARNING", "--without-gossip", "--without-mingle"),
                "--prefetch-multiplier=1",
            ],
            env=env,
            cwd=tmp_path,
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        result = subprocess.run(
            [sys.executable, "-c", CALL],
            env=env,
            cwd=tmp_path,  # the broker makes a folder there
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert result.stdout == "done\n", (result.stderr, log.read_text())
    finally:
        worker.terminate()
        try:
            ended = worker.wait(30)
        except subprocess.TimeoutExpired:
            worker.kill()
            raise
    assert ended == 0
    assert "Traceback" not in log.read_text(), log.read_text()
