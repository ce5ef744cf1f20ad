"""grpcio with fork support registers handlers of pthread_atfork, which run Python."""

from __future__ import annotations

import pytest

from tests.support import run_python

FORKS = """
import os, sys, threading, time

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "1"
order, beside = sys.argv[1:]

def start():
    import pyprof_agent
    return pyprof_agent.start(heap_sample_bytes=4096)

if order == "the agent first":
    agent = start()

import grpc
from concurrent import futures

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request * 2)

told, tell = os.pipe()
server_process = os.fork()
if server_process == 0:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Handler(),))
    os.write(tell, b"%d" % server.add_insecure_port("127.0.0.1:0"))
    server.start()
    time.sleep(110)
    os._exit(1)
address = f"127.0.0.1:{int(os.read(told, 20))}"
call = grpc.insecure_channel(address).unary_unary("/service/method")
assert call(b"x", timeout=20) == b"xx"
if order == "grpcio first":
    agent = start()

def allocate():
    while True:
        [bytes(600) for _ in range(50)]
        time.sleep(0.001)

if beside == "a thread":
    threading.Thread(target=allocate, daemon=True).start()

def work(called):
    assert called(b"y", timeout=20) == b"yy"
    ticks, end = agent.stats()["stacks"]["ticks"], time.monotonic() + 20
    while agent.stats()["stacks"]["ticks"] == ticks:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert agent.capture("heap").samples

try:
    for each in range(30):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(grpc.insecure_channel(address).unary_unary("/service/method"))
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0, each
        work(call)
finally:
    os.kill(server_process, 9)
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("beside", ["a thread", "no thread"])
@pytest.mark.parametrize("order", ["the agent first", "grpcio first"])
def test_forks_beside_its_handlers_neither_hang_nor_lose_the_agent(order: str, beside: str) -> None:
    assert run_python(FORKS, order, beside).stdout == "done\n"
