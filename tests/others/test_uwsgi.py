"""uWSGI forks in C: by default it runs the application in its master, and tells CPython nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import free_port, get, running

MODES = (
    "",
    "--enable-threads",
    "--lazy-apps",
    "--master",
    "--master --enable-threads",
    "--master --lazy-apps --enable-threads",
    "--master --threads=4",
    "--py-call-osafterfork",
    "--py-call-uwsgi-fork-hooks --enable-threads",
)


@pytest.mark.parametrize("mode", MODES)
def test_every_worker_is_sampled(mode: str) -> None:
    uwsgi = Path(sys.executable).with_name("uwsgi")
    assert uwsgi.exists(), "run `make others`"
    url = f"http://127.0.0.1:{free_port()}/"
    command = [
        *(str(uwsgi), "--need-app", "--workers=2", "--virtualenv", sys.prefix),
        *("--http-socket", url.removeprefix("http://").strip("/")),
        *("--wsgi-file", str(Path(__file__).with_name("uwsgi_app.py")), *mode.split()),
    ]
    with running(command, ready=url) as process, ThreadPoolExecutor(4) as clients:
        answers = []
        for _ in range(5):
            answers += [json.loads(body) for body in clients.map(get, [url] * 4)]
            if len({answer["pid"] for answer in answers}) == 2:
                break
        # Without a master the processes do not end each other.
        for pid in {process.pid, *(answer["pid"] for answer in answers)}:
            os.kill(pid, signal.SIGINT)
        process.communicate(timeout=20)
    assert len({answer["pid"] for answer in answers}) == 2
    for answer in answers:
        assert answer["running"], answer
        assert min(answer["heap"], answer["threads"]) > 0, answer
        assert 0.3e9 < answer["burned"] < 2.5e9, answer
