"""`pyprof-agent gate` and `diff`: what they ask for, answer and write."""

from __future__ import annotations

import json
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from xml.etree import ElementTree

import pytest

from pyprof_agent.cli import main
from pyprof_agent.errors import GateError
from pyprof_agent.formats.pprof import decode
from pyprof_agent.gate import report
from pyprof_agent.gate.client import Client
from pyprof_agent.gate.run import Outcome, Plan, run
from pyprof_agent.leaks import words
from pyprof_agent.leaks.verdict import FAILED, PASSED, UNKNOWN, Limit
from pyprof_agent.profile import Frame, Profile, Sample, ValueType

MIB = 2**20
CACHE = Frame("shop.cache.put", "/shop/cache.py", 1, 5)
LEAK = Frame("shop.channel.send", "/shop/channel.py", 30, 40)


class Service:
    """A service whose clock runs only while somebody sleeps, and which leaks by the second."""

    def __init__(self, leak: float) -> None:
        self.second = 0.0
        self.process = 7
        self._leak = leak

    def now(self) -> float:
        return self.second

    def sleep(self, seconds: float) -> None:
        self.second += seconds

    def heap(self) -> Profile:
        leaked = int(self._leak * self.second)
        types = ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")
        rows = {CACHE: (300 * MIB, 100 * MIB), LEAK: (leaked, leaked)}
        return Profile(
            sample_types=tuple(
                ValueType(name, "bytes" if "space" in name else "count") for name in types
            ),
            samples=tuple(
                Sample((line,), (1, allocated, 1, in_use))
                for line, (allocated, in_use) in rows.items()
            ),
            period_type=ValueType("space", "bytes"),
            period=1,
            time_nanos=10**18 + round(self.second * 1e9),
            comments=(f"process: {self.process}", f"work done so far: {round(self.second * 100)}"),
        )


def gate(service: Service, plan: Plan, limit: str = "1%/h") -> Outcome:
    told: list[float] = []
    outcome = run(
        service,
        plan,
        Limit.hourly(limit),
        tell=lambda share, look: told.append(share),
        now=service.now,
        sleep=service.sleep,
    )
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0, 1)
    return outcome


def test_the_warm_up_does_not_count() -> None:
    service = Service(100.0)
    outcome = gate(service, Plan.of(600))
    assert outcome.looks[0].seconds == 10**9 + 120
    assert outcome.looks[-1].seconds == 10**9 + 600
    assert 50 < len(outcome.looks) < 70
    assert outcome.first.total("inuse_space") < outcome.last.total("inuse_space")


@pytest.mark.parametrize(("leak", "answer"), [(0.0, PASSED), (1e6, FAILED)])
def test_it_passes_or_fails(leak: float, answer: str) -> None:
    assert gate(Service(leak), Plan.of(600)).verdict.answer == answer


def test_another_process_ends_it() -> None:
    service = Service(0.0)

    def sleep(seconds: float) -> None:
        service.sleep(seconds)
        service.process += 1

    with pytest.raises(GateError, match="process 9 has answered after 8"):
        run(
            service,
            Plan.of(60),
            Limit.hourly("1%/h"),
            tell=lambda *_: None,
            now=service.now,
            sleep=sleep,
        )


@pytest.mark.parametrize(
    ("duration", "warm_up", "pause", "message"),
    [
        (60, 60, None, "the warm-up is 60 s of 60 s"),
        (60, 70, None, "the warm-up is 70 s of 60 s"),
        (60, 10, 51, "--every is 51 s, of 50 s that are measured"),
    ],
)
def test_times_that_do_not_fit_are_refused(
    duration: float, warm_up: float | None, pause: float | None, message: str
) -> None:
    with pytest.raises(GateError, match=message):
        Plan.of(duration, warm_up, pause)


def test_the_answer_is_told_to_people_and_machines() -> None:
    verdict = gate(Service(1e6), Plan.of(600)).verdict
    text = report.text(verdict)
    assert text.startswith("failed: it surely grows by more than 1 %/h\n")
    assert "shop.channel.send (/shop/channel.py:40), 3.4 GiB an hour, 10000 B a request" in text
    told = json.loads(report.as_json(verdict))
    assert told["answer"] == "failed"
    assert told["suspects"][0]["line"] == 40
    assert told["suspects"][0]["bytes_per_request"]["estimate"] == pytest.approx(10000, rel=0.01)
    suite = ElementTree.fromstring(report.junit(verdict))
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "0")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.text == text


def test_what_cannot_be_told_is_skipped_in_junit_and_says_how_long_to_run() -> None:
    verdict = gate(Service(0.0), Plan.of(10, 0, 2)).verdict
    assert verdict.answer == UNKNOWN
    assert "can tell: --duration" in report.text(verdict)
    suite = ElementTree.fromstring(report.junit(verdict))
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")
    assert json.loads(report.as_json(verdict))["growth"] is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (119.2, "120 s"), (121, "3 min"), (7201, "3 h")]
)
def test_durations_are_rounded_up(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


class _Handler(BaseHTTPRequestHandler):
    asked: ClassVar[list[tuple[str, str | None]]] = []
    answer: ClassVar[tuple[int, bytes]] = (200, b"")

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        status, body = self.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> object:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    _Handler.asked.clear()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_asks_for_heap_where_the_url_says(port: int) -> None:
    profile = Service(0.0).heap()
    _Handler.answer = (200, profile.to_bytes())
    for url in (
        f"localhost:{port}",
        f"http://localhost:{port}/",
        f"http://me:se%20cret@localhost:{port}/api/debug/pprof/",
    ):
        assert set(Client(url).heap().samples) == set(profile.samples)
    assert _Handler.asked == [
        ("/debug/pprof/heap", None),
        ("/debug/pprof/heap", None),
        ("/api/debug/pprof/heap", "Basic bWU6c2UgY3JldA=="),
    ]


def test_another_answer_is_told(port: int) -> None:
    _Handler.answer = (403, b"pprof endpoints answer clients on the loopback interface only\n")
    with pytest.raises(GateError, match="answers 403: pprof endpoints answer clients on the loop"):
        Client(f"localhost:{port}").heap()


@pytest.mark.parametrize(
    "url",
    ["", "ftp://localhost", "http://", "http://localhost:http", "http://[", "http://localhost/é"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(GateError, match="the URL is"):
        Client(url)


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", "localhost:1", "--duration", "10s"]) == 2
    assert "pyprof-agent: no answer from localhost:1/debug/pprof/heap: " in capsys.readouterr().err
    assert main(["gate", "localhost:1", "--max-growth", "much"]) == 2
    assert "the limit is 'much'; use per cent an hour" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["gate", "localhost:1", "--duration", "soon"])
    assert "'soon' is no time; use one like 90s, 5m or 1h" in capsys.readouterr().err


def test_diff_prints_or_writes_what_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service(MIB)
    before, after, growth = (str(tmp_path / f"{name}.pb.gz") for name in ("a", "b", "growth"))
    service.heap().write(before)
    service.sleep(10)
    replace(service.heap()).write(after)
    assert main(["diff", before, after]) == 0
    printed = capsys.readouterr().out
    assert "Type: inuse_space" in printed
    assert "10MB" in printed
    assert "shop.channel.send" in printed
    assert "shop.cache.put" not in printed
    assert main(["diff", before, after, "--sample", "alloc_space", "-o", growth]) == 0
    found = decode(Path(growth).read_bytes())
    assert found.default_sample_type == "alloc_space"
    assert found.total("inuse_space") == 10 * MIB
    page = tmp_path / "growth.html"
    assert main(["diff", before, after, "-o", str(page)]) == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert "shop.channel.send" in page.read_text()
    assert main(["diff", before, after, "--sample", "cpu"]) == 2
    assert "no sample type 'cpu'" in capsys.readouterr().err
    assert main(["diff", before, str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
