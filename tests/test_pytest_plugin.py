"""The marker `no_leaks`: what leaks fails, what fills or settles passes."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pyprof_agent.sources import heap_native

pytestmark = pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable() or "-")


def outcome(folder: Path, code: str) -> str:
    """What pytest prints of a file of tests."""
    (folder / "test_shop.py").write_text("import pytest\n" + textwrap.dedent(code))
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider"]
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    return result.stdout + result.stderr


def test_what_leaks_fails_with_its_line_and_bytes(tmp_path: Path) -> None:
    output = outcome(
        tmp_path,
        """
        kept = []

        def send():
            kept.append(bytes(95))  # 128 with the object around it

        @pytest.mark.no_leaks
        def test_channel():
            for _ in range(10):
                send()
        """,
    )
    assert "memory grows with each of 30 rounds:" in output
    found = re.search(r"  (\d+) bytes: test_shop.send \(.*test_shop.py:6\)", output)
    assert found
    assert 1280 <= int(found[1]) < 1450  # and 8 for its place in the list, which grows in steps
    assert "1 failed" in output


def test_what_fills_settles_or_goes_away_passes(tmp_path: Path) -> None:
    output = outcome(
        tmp_path,
        """
        import re
        cache, kept = {}, []

        @pytest.mark.no_leaks(rounds=20, warm_up=2)
        def test_cache(tmp_path):
            for number in range(100):
                cache[number] = re.compile(f"a{number}b")
            assert tmp_path.exists()

        @pytest.mark.no_leaks
        def test_garbage():
            ring = []
            ring.append(ring)

        @pytest.mark.no_leaks(most=200)
        def test_a_little():
            kept.append(bytes(95))

        @pytest.mark.parametrize("size", [10, 1000])
        @pytest.mark.no_leaks
        def test_nothing(size):
            bytes(size)

        def test_without():
            kept.append(1)
        """,
    )
    assert "6 passed" in output, output


def test_a_test_that_fails_fails(tmp_path: Path) -> None:
    output = outcome(tmp_path, "@pytest.mark.no_leaks\ndef test_it():\n    assert 1 == 2\n")
    assert "assert 1 == 2" in output
    assert "1 failed" in output


REFUSED = {
    "no_leaks(rounds=3)": "rounds is 3; use 12 or more",
    "no_leaks(warm_up=-1)": "warm_up is -1; use 0 or more",
    "no_leaks(most=-1)": "most is -1; use 0 or more",
    "no_leaks(times=3)": "unexpected keyword argument 'times'",
}


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    tests = [
        f"@pytest.mark.{marker}\ndef test_{number}(): pass\n"
        for number, marker in enumerate(REFUSED)
    ]
    tests.append("@pytest.mark.no_leaks\nasync def test_coroutine(): pass\n")
    output = outcome(tmp_path, "".join(tests))
    for message in [*REFUSED.values(), "it is a coroutine"]:
        assert message in output
    assert re.search(r"\bpassed\b", output) is None, output
