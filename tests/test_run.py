"""`pyprof-agent run`: whole programs, their children, their ends; and the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyprof_agent.formats.pprof import decode

PROGRAM = """
import os, sys, time
kept = [bytes(1000) for _ in range(20_000)]
end = time.thread_time() + 0.1
while time.thread_time() < end:
    sum(range(1000))
print(sys.argv[1:], __name__, __file__)
if "sleep" in sys.argv:
    print("ready", flush=True)
    for _ in range(600):  # a signal just before a sleep is handled after it: no long one
        time.sleep(0.1)
if "fork" in sys.argv:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
sys.exit(5 if "fail" in sys.argv else 0)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A script to profile, in an empty folder."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def run(
    *words: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyprof_agent", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        check=False,
    )


def test_a_script_is_profiled_and_runs_as_ever(program: Path) -> None:
    result = run("run", "program.py", "a", "--b", cwd=program.parent)
    assert result.returncode == 0
    assert result.stdout == f"['a', '--b'] __main__ {program}\n"
    heap = decode((program.parent / "heap.pb.gz").read_bytes())
    assert heap.total("inuse_space") > 1_000_000
    assert any(frame.function == "__main__.<module>" for s in heap.samples for frame in s.stack)
    cpu = decode((program.parent / "profile.pb.gz").read_bytes())
    assert cpu.total("cpu") > 0.1e9
    assert result.stderr.startswith("pyprof-agent: wrote ")
    assert "go tool pprof -top" in result.stderr


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (("-m", "program", "a", "--", "b"), ["a", "--", "b"]),
        (("-m", "program", "--", "-m", "x"), ["--", "-m", "x"]),
        (("-mprogram", "-o", "x", "--help"), ["-o", "x", "--help"]),
        (("program.py", "a", "--", "b"), ["a", "--", "b"]),
        (("program.py", "--", "b", "-h"), ["--", "b", "-h"]),
        (("--", "program.py", "--", "b"), ["--", "b"]),
        (("--", "-m", "program", "-o", "b"), ["-o", "b"]),
        (("--output=here", "program.py", "--output", "b"), ["--output", "b"]),
        (("-ohere", sys.executable, "program.py", "-m"), ["-m"]),
    ],
)
def test_every_argument_reaches_the_program(
    program: Path, words: tuple[str, ...], seen: list[str]
) -> None:
    result = run("run", *words, cwd=program.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{seen} __main__ ")


def test_a_file_that_cannot_be_executed_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    result = run("run", "./script", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "pyprof-agent: './script' cannot be run: Exec format error; if it is a script, its first "
        "line must say of what, as #!/bin/sh does\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--", sys.executable, "program.py", "x"),
        (sys.executable, "program.py", "x"),
        ("-m", "program", "x"),
        ("--", "sh", "-c", f"exec {sys.executable} program.py x"),
    ],
)
def test_any_command_that_ends_up_in_python(program: Path, words: tuple[str, ...]) -> None:
    result = run("run", "--output", "there", *words, cwd=program.parent)
    assert result.returncode == 0, result.stderr
    assert "['x'] __main__" in result.stdout
    assert {path.name for path in (program.parent / "there").iterdir()} == {
        "heap.pb.gz",
        "profile.pb.gz",
    }


def test_the_exit_status_is_the_programs(program: Path) -> None:
    assert run("run", "program.py", "fail", cwd=program.parent).returncode == 5
    assert (program.parent / "heap.pb.gz").exists()


def test_a_terminated_program_writes_and_dies_of_the_signal(program: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pyprof_agent", "run", "program.py", "sleep"],
        cwd=program.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM, errors
    assert (program.parent / "heap.pb.gz").exists()
    assert (program.parent / "profile.pb.gz").exists()


def test_an_unforeseen_error_at_the_end_is_told_and_not_raised_into_the_program(
    program: Path,
) -> None:
    program.write_text(
        "import pyprof_agent\n"
        "def broken(*_): raise RuntimeError('unforeseen')\n"
        "pyprof_agent.Agent.capture = broken\n"
    )
    result = run("run", "program.py", cwd=program.parent)
    assert result.returncode == 0
    assert result.stderr == "pyprof-agent: profiles not written: unforeseen\n"


def test_a_child_process_has_files_of_its_own(program: Path) -> None:
    run("run", "program.py", "fork", cwd=program.parent)
    names = sorted(path.name for path in program.parent.glob("*.pb.gz"))
    assert len(names) == 4, names
    assert "heap.pb.gz" in names
    assert all(decode((program.parent / name).read_bytes()).samples for name in names)


def test_the_programs_own_sitecustomize_still_runs(program: Path) -> None:
    site = program.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("print('mine')")
    result = run("run", "program.py", cwd=program.parent, env={"PYTHONPATH": str(site)})
    assert result.stdout.startswith("mine\n")
    assert (program.parent / "heap.pb.gz").exists()


def test_a_program_that_starts_the_agent_itself_gets_the_same_one(program: Path) -> None:
    program.write_text(
        "import pyprof_agent, tracemalloc\n"
        "agent = pyprof_agent.start()\n"
        "assert agent is pyprof_agent.start()\n"
    )
    assert run("run", "program.py", cwd=program.parent).returncode == 0
    assert (program.parent / "heap.pb.gz").exists()


@pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="CPython 3.12.1 and 3.13.0 crash on a subinterpreter made beside any thread",
)
def test_subinterpreters_of_the_program_are_left_alone(program: Path) -> None:
    program.write_text(
        "try: import _interpreters as interpreters\n"
        "except ImportError: import _xxsubinterpreters as interpreters\n"
        "interpreters.destroy(interpreters.create())\n"
    )
    # 3.11.7 hangs in it while tracemalloc traces.
    result = run("run", "program.py", cwd=program.parent, env={"PYPROF_AGENT_HEAP": "0"})
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr


def test_options_come_from_the_environment(program: Path) -> None:
    run("run", "program.py", cwd=program.parent, env={"PYPROF_AGENT_HEAP": "no"})
    assert [path.name for path in program.parent.glob("*.pb.gz")] == ["profile.pb.gz"]


def test_a_wrong_environment_is_told_and_the_program_runs_on(program: Path) -> None:
    result = run("run", "program.py", cwd=program.parent, env={"PYPROF_AGENT_STACK_HZ": "fast"})
    assert result.returncode == 0
    assert "not profiled: PYPROF_AGENT_STACK_HZ is 'fast'; use a number" in result.stderr
    assert "__main__" in result.stdout


def test_a_folder_that_cannot_be_written_is_told_and_changes_no_status(program: Path) -> None:
    program.write_text("import shutil, os; shutil.rmtree('there')")
    result = run("run", "-o", "there", "program.py", cwd=program.parent)
    assert result.returncode == 0
    assert "profiles not written" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run",), "nothing to run; give a script or a command"),
        (("run", "--"), "nothing to run"),
        (("run", "nosuchprogram"), "no program 'nosuchprogram' on PATH"),
        (("run", "-o", "program.py", "true"), "output folder 'program.py' cannot be made"),
        (("fly",), "invalid choice: 'fly'"),
    ],
)
def test_wrong_words_are_told_and_exit_with_2(
    program: Path, words: tuple[str, ...], message: str
) -> None:
    result = run(*words, cwd=program.parent)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_verb_it_prints_its_help(tmp_path: Path) -> None:
    result = run(cwd=tmp_path)
    assert result.returncode == 2
    assert "run a program and write its heap and CPU profiles" in result.stdout


def test_the_command_is_installed_with_its_version(tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "pyprof-agent"
    output = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert output.stdout == "pyprof-agent 0.1.0\n"


def test_the_program_starts_quickly(program: Path) -> None:
    program.write_text("")
    begin = time.monotonic()
    run("run", "program.py", cwd=program.parent)
    assert time.monotonic() - begin < 5
