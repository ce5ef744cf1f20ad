"""gevent's threads are greenlets: whoever waits has its event loop run."""

from __future__ import annotations

from tests.support import run_python

CHILDREN = """
import gevent.monkey
gevent.monkey.patch_all()
import gc, os, subprocess, time, warnings
import gevent

turns = []  # of the event loop
seen = []
os.register_at_fork(after_in_parent=lambda: seen.append(len(turns)))  # before the agent's
import pyprof_agent

os.register_at_fork(after_in_parent=lambda: seen.append(len(turns)))
warnings.simplefilter("ignore")  # of gevent's own making
agent = pyprof_agent.start(heap_sample_bytes=4096)
gevent.get_hub().threadpool.apply(time.time)  # a thread that is no greenlet

def turn():
    while True:
        turns.append(None)
        gevent.sleep(0.0001)

gevent.spawn(turn)
for _ in range(40):
    assert subprocess.Popen(["true"]).wait(timeout=20) == 0
    child = os.fork()
    if child == 0:
        os._exit(3)
    with gevent.Timeout(20):
        assert os.waitpid(child, 0) == (child, 3 << 8)
assert turns
assert seen and seen[::2] == seen[1::2], seen  # a child that ends there would be lost
assert agent.capture("heap").samples

class Node:
    freed = 0
    def __init__(self):
        self.me = self
    def __del__(self):
        Node.freed += 1

for _ in range(5000):
    Node()
assert Node.freed > 3000 and min(gc.get_count()) >= 0, (Node.freed, gc.get_count())
print("done")
"""


def test_children_end_when_they_end() -> None:
    assert run_python(CHILDREN, timeout=100).stdout == "done\n"
