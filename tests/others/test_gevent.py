"""gevent's threads are greenlets: whoever waits has its event loop run."""

from __future__ import annotations

from tests.support import run_python

CHILDREN = """
import gevent.monkey
gevent.monkey.patch_all()
import os, subprocess, sys, time, warnings
import gevent
import pyprof_agent

warnings.simplefilter("ignore")  # of gevent's own making
agent = pyprof_agent.start()
gevent.get_hub().threadpool.apply(time.time)  # a thread that is no greenlet
started = time.monotonic()
for _ in range(40):
    assert subprocess.Popen(["true"]).wait(timeout=20) == 0
    child = os.fork()
    if child == 0:
        os._exit(3)
    with gevent.Timeout(20):
        assert os.waitpid(child, 0) == (child, 3 << 8)
assert agent.capture("heap").samples
print("done")
"""


def test_children_end_when_they_end() -> None:
    assert run_python(CHILDREN, timeout=100).stdout == "done\n"
