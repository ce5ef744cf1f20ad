"""Profiles in a folder: whole, named by their time, within limits, whoever else writes there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyprof_agent.errors import ProfileError, SinkError
from pyprof_agent.formats.pprof import decode
from pyprof_agent.profile import Profile, Sample
from pyprof_agent.sinks.directory import ENOUGH, Directory
from pyprof_agent.sinks.names import Name
from pyprof_agent.sinks.retention import WRONG_CLOCK_SECONDS, File, Keep, newest_first
from tests.sinks.kills import killed
from tests.support import LEAF, heap_profile, run_python

Fail = Callable[[int, int], None]

NOW = int(time.time()) - 600
"""When the first profile of a test is taken, Unix time."""

MIB = 2**20

NOBODY = 999_999_999
"""A process that there cannot be: Linux numbers them up to 4,194,304."""


def taken(second: int = 0, value: int = 1) -> Profile:
    """A profile of so many seconds after NOW."""
    return heap_profile(Sample((LEAF,), (1, value, 1, value)), time_nanos=(NOW + second) * 10**9)


SIZE = len(taken().to_bytes())


def directory(folder: Path, count: int = 1000, seconds: float = 1e6, size: int = MIB) -> Directory:
    return Directory(folder, keep_count=count, keep_seconds=seconds, keep_bytes=size)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def named(second: int = 0, process: int | None = None, number: int = 1, name: str = "heap") -> str:
    return Name(name, NOW + second, process or os.getpid(), number).file


def test_the_name_tells_profile_time_and_process(tmp_path: Path) -> None:
    profile = heap_profile(time_nanos=1_795_417_200_999_999_999)
    path = directory(tmp_path).write(profile, "allocs")
    assert path == tmp_path / f"allocs-20261123T070000Z-{os.getpid()}.pb.gz"
    assert decode(path.read_bytes()) == profile
    assert left(tmp_path) == [path.name]


def test_only_its_user_may_read_what_is_written(tmp_path: Path) -> None:
    path = directory(tmp_path / "new").write(taken())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    directory(tmp_path).write(taken())
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    written = directory(folder)
    written.write(taken()).unlink()
    folder.rmdir()
    assert written.write(taken()).exists()


def test_the_folder_stays_where_it_was_when_the_program_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = directory(Path("profiles"))
    monkeypatch.chdir("/")
    assert written.write(taken()).parent == tmp_path / "profiles"


def test_files_of_one_second_do_not_overwrite_each_other(tmp_path: Path) -> None:
    paths = [directory(tmp_path).write(taken(value=value)) for value in range(1, 12)]
    assert [path.name for path in paths] == [named(number=number) for number in range(1, 12)]
    assert [decode(path.read_bytes()).total("inuse_space") for path in paths] == [*range(1, 12)]


def test_names_are_read_back() -> None:
    for number in (1, 2, 10):
        name = Name("heap", NOW, 4242, number)
        assert Name.of_file(name.file) == Name.of_part(name.part) == name
        assert Name.of_file(name.part) is Name.of_part(name.file) is None


@pytest.mark.parametrize("name", ["", "a/b", "..", "heap-old", "heap\n", "tête"])
def test_a_name_that_cannot_be_part_of_a_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SinkError, match="use letters, digits and _"):
        directory(tmp_path / "new").write(taken(), name)
    assert left(tmp_path) == []


def test_an_invalid_profile_touches_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProfileError):
        directory(tmp_path / "new").write(heap_profile(time_nanos=0))
    assert left(tmp_path) == []


# What is kept.


def test_the_newest_by_count_are_kept(tmp_path: Path) -> None:
    for second in range(6):
        directory(tmp_path, count=3).write(taken(second))
    assert left(tmp_path) == [named(3), named(4), named(5)]


def test_the_newest_by_age_are_kept(tmp_path: Path) -> None:
    for second in (-7200, -3700, -3000, 0):
        directory(tmp_path).write(taken(second))
    directory(tmp_path, seconds=3600 + 600).write(taken(1))
    assert left(tmp_path) == [named(-3000), named(0), named(1)]


def test_the_newest_by_size_are_kept(tmp_path: Path) -> None:
    for second in range(6):
        directory(tmp_path, size=5 * SIZE // 2).write(taken(second))
    assert left(tmp_path) == [named(4), named(5)]


def test_of_one_second_what_was_written_last_is_kept(tmp_path: Path) -> None:
    for value in range(1, 6):
        path = directory(tmp_path, count=1).write(taken(value=value))
        assert [decode(path.read_bytes()).total("inuse_space")] == [value]
        assert left(tmp_path) == [path.name]


def test_the_newest_is_kept_whatever_the_limits_are(tmp_path: Path) -> None:
    for second in (0, 1):
        directory(tmp_path, count=0, seconds=0, size=0).write(taken(second))
    assert left(tmp_path) == [named(1)]


def test_each_profile_has_the_limits_for_itself(tmp_path: Path) -> None:
    for second in range(3):
        for name in ("heap", "allocs"):
            directory(tmp_path, count=2).write(taken(second), name)
    assert left(tmp_path) == [named(s, name=name) for name in ("allocs", "heap") for s in (1, 2)]


def test_files_of_other_processes_count(tmp_path: Path) -> None:
    for process in (NOBODY - 1, NOBODY):
        (tmp_path / named(-process, process)).write_bytes(b"")
        (tmp_path / named(-5, process)).write_bytes(b"")
    directory(tmp_path, count=2).write(taken())
    assert left(tmp_path) == sorted([named(-5, NOBODY), named()])


FOREIGN = (
    "heap.pb.gz",
    "heap-20200101T000000Z.pb.gz",
    "heap-20200101T000000Z-7.pb",
    "heap-20200101T000000Z-7.pb.gz.bak",
    "heap-20200101T000000Z-7.pb.gz\n",
    "heap-20200101T000000Z-07.pb.gz",
    "heap-20200101T000000Z-0.pb.gz",
    "heap-20200101T000000Z-7-1.pb.gz",
    "heap-20200101T000000Z-7-02.pb.gz",
    "heap-20200101T000000Z-7-2-2.pb.gz",
    "heap-20200230T000000Z-7.pb.gz",
    "heap-20200101T240000Z-7.pb.gz",
    "heap-\u0662\u0660\u0662\u06600101T000000Z-7.pb.gz",
    "heap-old-20200101T000000Z-7.pb.gz",
    "old-heap-20200101T000000Z-7.pb.gz",
    "Heap-20200101T000000Z-7.pb.gz",
    "heapx-20200101T000000Z-7.pb.gz",
    "heap-20200101T000000Z-7.pb.gz.part",
    ".heap-20200101T000000Z-7.pb.gz",
    ".heap-20200101T000000Z-7.part",
    ".allocs-20200101T000000Z-7.pb.gz.part",
    "allocs-20200101T000000Z-7.pb.gz",
    "notes.txt",
)


def test_files_of_others_are_not_touched(tmp_path: Path) -> None:
    for name in FOREIGN:
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    folder, link = tmp_path / named(-9, 7), tmp_path / named(-9, 8)
    folder.mkdir()
    link.symlink_to(tmp_path / "notes.txt")
    for second in range(3):
        directory(tmp_path, count=1, seconds=0, size=0).write(taken(second))
    assert left(tmp_path) == sorted([*FOREIGN, folder.name, link.name, named(2)])
    assert all((tmp_path / name).read_text() == "mine" for name in FOREIGN)


def test_a_file_that_is_gone_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def twice(path: str) -> None:
        unlink(path)
        unlink(path)

    directory(tmp_path).write(taken(0))
    monkeypatch.setattr(os, "unlink", twice)
    directory(tmp_path, count=1).write(taken(1))
    assert left(tmp_path) == [named(1)]


def test_what_cannot_be_deleted_is_told_after_all_else_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def mostly(path: str) -> None:
        if path.endswith(named(1)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        unlink(path)

    for second in range(4):
        directory(tmp_path).write(taken(second))
    monkeypatch.setattr(os, "unlink", mostly)
    told = rf"{named(4)} is there, but older files stay: .*Permission denied.*{named(1)}"
    with pytest.raises(SinkError, match=told):
        directory(tmp_path, count=1).write(taken(4))
    assert left(tmp_path) == [named(1), named(4)]


FILES = st.lists(
    st.builds(
        File,
        st.builds(Name, st.just("heap"), st.integers(0, 50), st.integers(1, 3), st.integers(1, 3)),
        st.integers(0, 3),
        st.integers(0, 10),
    ),
    max_size=20,
    unique_by=lambda file: file.name,
)
KEEPS = st.builds(Keep, st.integers(0, 12), st.integers(0, 60), st.integers(0, 60))
CLOCKS = st.integers(0, 60)


def within(keep: Keep, files: list[File], now: float) -> bool:
    return (
        len(files) <= keep.count
        and sum(file.size for file in files) <= keep.bytes
        and all(now - file.name.second <= keep.seconds for file in files)
    )


@given(FILES, KEEPS, CLOCKS)
def test_as_many_of_the_newest_are_kept_as_the_limits_allow(
    files: list[File], keep: Keep, now: int
) -> None:
    expired = keep.expired(files, now)
    kept = [file for file in newest_first(files, now) if file not in expired]
    assert newest_first(files, now) == kept + expired[::-1]
    assert len(kept) >= min(len(files), 1)
    assert len(kept) <= 1 or within(keep, kept, now)
    assert not expired or not within(keep, [*kept, expired[-1]], now)
    assert keep.expired(kept, now) == []


@given(FILES, KEEPS, CLOCKS, st.sets(st.integers(0, 19)))
def test_who_has_seen_only_some_of_the_files_deletes_none_that_the_others_keep(
    files: list[File], keep: Keep, now: int, seen: set[int]
) -> None:
    some = [file for place, file in enumerate(files) if place in seen]
    assert {*keep.expired(some, now)} <= {*keep.expired(files, now)}


@given(FILES, KEEPS, CLOCKS)
def test_the_order_in_which_files_are_listed_does_not_matter(
    files: list[File], keep: Keep, now: int
) -> None:
    assert keep.expired(files, now) == keep.expired(files[::-1], now)


def test_files_of_a_wrong_clock_go_first(tmp_path: Path) -> None:
    wrong = [WRONG_CLOCK_SECONDS * 365 + second for second in range(3)]
    for second in (*wrong, 0, 1, 2):
        directory(tmp_path, count=3).write(taken(second))
    assert left(tmp_path) == [named(second) for second in (0, 1, 2)]


# Parts: what a writer leaves behind that was killed.


@pytest.mark.parametrize(
    ("writer", "age", "stays"),
    [
        ("us", 0, True),
        ("us", 3500, True),
        ("us", 3700, False),
        ("nobody", 0, True),  # it may live in another container
        ("nobody", 200, True),
        ("nobody", 400, False),
        ("nobody", -400, True),
    ],
)
def test_a_part_goes_when_it_is_old_or_its_writer_is_gone(
    tmp_path: Path, writer: str, age: int, stays: bool
) -> None:
    process = os.getpid() if writer == "us" else NOBODY
    part = tmp_path / Name("heap", NOW - 9, process).part
    part.write_bytes(b"half a prof")
    os.utime(part, (time.time() - age,) * 2)
    directory(tmp_path).write(taken())
    assert part.exists() == stays


def test_a_part_of_another_user_s_process_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(process: int, number: int) -> None:
        assert number == 0
        raise PermissionError

    part = tmp_path / Name("heap", NOW, NOBODY).part
    part.write_bytes(b"half a prof")
    os.utime(part, (time.time() - 400,) * 2)
    monkeypatch.setattr(os, "kill", kill)
    directory(tmp_path).write(taken())
    assert part.exists()


def test_the_name_of_a_part_is_taken(tmp_path: Path) -> None:
    # It may be written at this moment, by a process of the same number in another container.
    (tmp_path / Name("heap", NOW, os.getpid()).part).write_bytes(b"half a prof")
    assert directory(tmp_path).write(taken()).name == named(number=2)


@pytest.mark.parametrize("bait", ["part", "file"])
def test_a_link_that_was_laid_out_is_not_followed(tmp_path: Path, bait: str) -> None:
    prey = tmp_path / "prey"
    prey.write_text("mine")
    name = Name("heap", NOW, os.getpid())
    for target in (prey, tmp_path / "missing"):
        link = tmp_path / getattr(name, bait)
        link.symlink_to(target)
        assert directory(tmp_path).write(taken()).name == named(number=2)
        assert link.is_symlink()
        link.unlink()
        (tmp_path / named(number=2)).unlink()
    assert left(tmp_path) == ["prey"]
    assert prey.read_text() == "mine"


# Where it cannot be written.


@pytest.fixture(params=["open", "write", "fsync", "replace"])
def fail(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Has one of the calls that a write is made of fail, with an error, for a number of times."""
    call: str = request.param
    real = getattr(os, call)

    def fail(number: int, times: int) -> None:
        left = iter(range(times))

        def failing(*arguments: object) -> object:
            if next(left, None) is None:
                return real(*arguments)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, call, failing)

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_on_a_full_disk_the_oldest_make_room(tmp_path: Path, fail: Fail, number: int) -> None:
    for second in range(4):
        directory(tmp_path).write(taken(second))
    fail(number, 2)
    directory(tmp_path).write(taken(4))
    assert left(tmp_path) == [named(2), named(3), named(4)]


def test_on_a_full_disk_abandoned_parts_go_first(tmp_path: Path, fail: Fail) -> None:
    directory(tmp_path).write(taken(0))
    directory(tmp_path).write(taken(1))
    part = tmp_path / Name("heap", NOW, NOBODY).part
    part.write_bytes(b"half a prof")
    os.utime(part, (0, 0))
    fail(errno.ENOSPC, 1)
    directory(tmp_path).write(taken(2))
    assert left(tmp_path) == [named(0), named(1), named(2)]


def test_where_deleting_does_not_help_the_history_stays(tmp_path: Path, fail: Fail) -> None:
    for second in range(9):
        # As large as the new one or a little larger: a time makes a difference of some bytes.
        os.truncate(directory(tmp_path).write(taken(second)), SIZE + 16)
    fail(errno.ENOSPC, 100)
    told = rf"cannot write .*{named(9)}: No space left .*; older files deleted for it: {ENOUGH}$"
    with pytest.raises(SinkError, match=told):
        directory(tmp_path).write(taken(9))
    assert left(tmp_path) == [named(second) for second in range(ENOUGH, 9)]


def test_the_newest_does_not_go_to_make_room(tmp_path: Path, fail: Fail) -> None:
    directory(tmp_path).write(taken(0))
    fail(errno.ENOSPC, 100)
    with pytest.raises(SinkError, match=r"No space left on device$"):
        directory(tmp_path).write(taken(1))
    assert left(tmp_path) == [named(0)]


def test_what_cannot_be_deleted_makes_no_room_and_the_next_does(
    tmp_path: Path, fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def mostly(path: str) -> None:
        if path.endswith(named(0)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        unlink(path)

    for second in range(3):
        directory(tmp_path).write(taken(second))
    monkeypatch.setattr(os, "unlink", mostly)
    fail(errno.ENOSPC, 1)
    directory(tmp_path).write(taken(3))
    assert left(tmp_path) == [named(0), named(2), named(3)]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EROFS])
def test_another_failure_deletes_nothing(tmp_path: Path, fail: Fail, number: int) -> None:
    for second in range(3):
        directory(tmp_path).write(taken(second))
    fail(number, 1)
    with pytest.raises(SinkError, match=rf"{named(3)}: {os.strerror(number)}$"):
        directory(tmp_path).write(taken(3))
    assert left(tmp_path) == [named(second) for second in range(3)]


def test_an_interrupt_leaves_nothing_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        directory(tmp_path).write(taken())
    assert left(tmp_path) == []


def test_a_write_that_takes_little_at_a_time_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    path = directory(tmp_path).write(taken())
    assert path.read_bytes() == taken().to_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be synced there")
def test_the_content_reaches_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, replace, calls = os.fsync, os.replace, []

    def synced(descriptor: int) -> None:
        status = os.fstat(descriptor)
        calls.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
        fsync(descriptor)

    def replaced(source: str, target: str) -> None:
        calls.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    directory(tmp_path).write(taken())
    assert calls == [f"{SIZE} bytes", "name", "folder"]


def test_a_folder_that_cannot_be_synced_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    assert directory(tmp_path).write(taken()).exists()


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SinkError, match=rf"cannot write {folder}.*: (File exists|Not a dir)"):
            directory(folder).write(taken())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 pages, of which a profile of the tests takes one."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount, and Linux has tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    size = f"size={16 * os.sysconf('SC_PAGE_SIZE')}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("root cannot mount here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    """A file of somebody else's, which takes all that is free."""
    with open(disk / "log", "ab", 0) as log, contextlib.suppress(OSError):
        while True:
            log.write(bytes(512))


def test_a_small_disk_holds_the_newest_that_fit(small_disk: Path) -> None:
    for second in range(40):
        path = directory(small_disk).write(taken(second))
        assert decode(path.read_bytes()) == taken(second)
    assert left(small_disk) == [named(second) for second in range(24, 40)]
    fill(small_disk)
    directory(small_disk).write(taken(40))
    assert left(small_disk) == [*(named(second) for second in range(25, 41)), "log"]
    assert all(decode((small_disk / name).read_bytes()) for name in left(small_disk)[:-1])


def test_on_a_disk_that_others_have_filled_one_goes_for_one(small_disk: Path) -> None:
    for second in range(2):
        directory(small_disk).write(taken(second))
    fill(small_disk)
    for second in range(2, 6):
        directory(small_disk).write(taken(second))
        assert left(small_disk) == [named(second - 1), named(second), "log"]


def test_on_a_disk_with_room_for_none_nothing_torn_is_left(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(SinkError, match=rf"cannot write .*{named()}: No space left on device$"):
        directory(small_disk).write(taken())
    assert left(small_disk) == ["log"]
    (small_disk / "log").unlink()
    path = directory(small_disk).write(taken())
    fill(small_disk)
    with pytest.raises(SinkError):  # room for one of these would take the newest
        directory(small_disk).write(taken(1))
    assert left(small_disk) == [path.name, "log"]


# Many at once.


def test_threads_do_not_meet(tmp_path: Path) -> None:
    written = directory(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        paths = [*pool.map(lambda value: written.write(taken(value=value)), range(1, 101))]
    assert len({*paths}) == 100
    assert left(tmp_path) == sorted(path.name for path in paths)
    for value, path in enumerate(paths, 1):
        assert decode(path.read_bytes()).total("inuse_space") == value


PROCESSES = """
import os, sys
from pathlib import Path
from tests.sinks.test_directory import directory, taken

folder, kept, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
written = directory(folder, count=kept)
if number:
    os.getpid = lambda: number
children = []
for process in range(8):
    child = os.fork()
    if child == 0:
        for turn in range(20):
            written.write(taken(turn, value=1 + 20 * process + turn))
        os._exit(0)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


def written_by_processes(folder: Path, kept: int, number: int = 0) -> list[Profile]:
    """What is there after 8 forked processes have written 20 files each.

    number: what all of them take for their process; 0 for their own
    """
    result = run_python(PROCESSES, str(folder), str(kept), str(number))
    assert (result.stdout, result.stderr) == (f"{[0] * 8}\n", "")
    return [decode((folder / name).read_bytes()) for name in left(folder)]


@needs_fork
@pytest.mark.parametrize(
    ("number", "processes"), [(0, 8), (7, 1)], ids=["processes", "containers of one folder"]
)
def test_processes_do_not_meet(tmp_path: Path, number: int, processes: int) -> None:
    found = written_by_processes(tmp_path, 1000, number)
    assert sorted(profile.total("inuse_space") for profile in found) == [*range(1, 161)]
    names = [Name.of_file(name) for name in left(tmp_path)]
    assert len({name.process for name in names if name}) == processes


@needs_fork
def test_processes_keep_the_limits_together(tmp_path: Path) -> None:
    found = written_by_processes(tmp_path, 5)
    assert len(found) == 5
    assert len({profile.time_nanos for profile in found}) == 1  # that of the last turn


@needs_fork
def test_a_child_writes_that_was_forked_in_the_middle_of_a_write(tmp_path: Path) -> None:
    code = """
        import os, sys, threading, warnings
        from pathlib import Path
        from tests.sinks.test_directory import directory, taken

        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside other threads
        written, over = directory(Path(sys.argv[1]), count=5), threading.Event()

        def write():
            while not over.is_set():
                written.write(taken())

        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            child = os.fork()
            if child == 0:
                written.write(taken(60))
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        over.set()
        for thread in threads:
            thread.join()
    """
    result = run_python(code, str(tmp_path))
    assert (result.stdout, result.stderr) == ("", "")
    assert [*tmp_path.glob(".*")] == []
    assert len([decode(path.read_bytes()) for path in tmp_path.iterdir()]) == 5


@needs_fork
def test_every_file_opens_after_30_kills(tmp_path: Path) -> None:
    assert killed(tmp_path, rounds=30).opened > 0
