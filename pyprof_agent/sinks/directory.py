"""Profiles in a folder that many processes share: whole files only, and not too many."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from pathlib import Path

from pyprof_agent.errors import SinkError
from pyprof_agent.profile import Profile
from pyprof_agent.sinks.names import Name
from pyprof_agent.sinks.retention import File, Keep, newest_first

ABANDONED_SECONDS = 3600
"""Age at which an unfinished file is nobody's, whoever wrote it."""

WRITING_SECONDS = 300
"""Age before which an unfinished file is left alone even if its process is not to be seen: it may
be that of another container, which numbers its processes on its own."""

ENOUGH = 2
"""Times its own size that is freed at most for a new file. Where that does not help, somebody else
fills the disk, or deleting frees nothing (snapshots): the history would be lost for nothing."""

_FULL = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)

# The last two are not known, or not needed, everywhere.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_CREATE |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Directory:
    """Writes profiles to a folder, and deletes old ones.

    There is no lock and nothing is remembered, so threads, forked children and other processes
    need not know of each other: what they do is settled by the file system.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep_count: int,
        keep_seconds: float,
        keep_bytes: int,
    ) -> None:
        """Touches nothing yet.

        folder: made at the first write if it is missing, for this user only
        keep_count, keep_seconds, keep_bytes: what is kept of each profile: files, their age in
            seconds, their size together in bytes; the newest file always is
        """
        self._folder = os.path.abspath(folder)
        self._keep = Keep(keep_count, keep_seconds, keep_bytes)

    def write(self, profile: Profile, name: str = "heap") -> Path:
        """Write a file, delete those that are too many, and return the path.

        Where the disk is full old files of the same profile go first: see `ENOUGH`. What is
        written does not stay, either, if it is older than all that is kept.

        name: what it is a profile of: letters, digits and _

        Raises SinkError if the file cannot be written, of which nothing is left then, or if it is
        but older ones cannot be deleted; ProfileError for an invalid profile.
        """
        first = Name.first(name, profile.time_nanos, os.getpid())
        path = self._path(self._write(profile.to_bytes(), first).file)
        try:
            self._tidy(name)
        except OSError as error:
            raise SinkError(f"{path} is there, but older files stay: {error}") from error
        return Path(path)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _write(self, data: bytes, first: Name) -> Name:
        """Write to the first name that is free, and make room for that if need be."""
        deleted: list[int] = []
        while True:
            try:
                return self._write_now(data, first)
            except OSError as error:
                size = None
                if error.errno in _FULL and sum(deleted) < ENOUGH * len(data):
                    size = self._delete_oldest(first.profile)
                if size is None:
                    why = f"cannot write {self._path(first.file)}: {error.strerror}"
                    if deleted:
                        why += f"; older files deleted for it: {len(deleted)}"
                    raise SinkError(why) from error
                deleted.append(size)

    def _write_now(self, data: bytes, first: Name) -> Name:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        name = first
        while not self._write_as(name, data):
            name = name.next
        return name

    def _write_as(self, name: Name, data: bytes) -> bool:
        """Write to this name; False if it is taken.

        The part is what reserves the name, since os.replace() overwrites: who has made it, and
        then finds no file of the name, is alone in writing to it.
        """
        part, target = self._path(name.part), self._path(name.file)
        try:
            descriptor = os.open(part, _CREATE, 0o600)
        except FileExistsError:
            return False
        try:
            try:
                free = not os.path.lexists(target)
                if free:
                    _write_all(descriptor, data)
            finally:
                os.close(descriptor)
            if free:
                os.replace(part, target)
            else:
                os.unlink(part)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        self._sync_folder()
        return free

    def _sync_folder(self) -> None:
        """Have the new name survive a crash of the machine."""
        if sys.platform == "win32":
            return
        # The file is there, and whole. Some file systems cannot do more.
        with contextlib.suppress(OSError):
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _tidy(self, profile: str) -> None:
        """Delete what is too much. Raises OSError, after all that can be deleted is."""
        files, abandoned = self._look(profile)
        expired = self._keep.expired(files, time.time())
        failure: OSError | None = None
        for name in [old.name.part for old in abandoned] + [old.name.file for old in expired]:
            try:
                self._delete(name)
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure

    def _delete_oldest(self, profile: str) -> int | None:
        """Delete one file, though not the newest, and return its size; None if that cannot be."""
        with contextlib.suppress(OSError):
            files, abandoned = self._look(profile)
            older = newest_first(files, time.time())[1:]
            spare = [(old.name.part, old.size) for old in abandoned]
            spare += [(old.name.file, old.size) for old in reversed(older)]
            for name, size in spare:
                with contextlib.suppress(OSError):  # another user's: try the next
                    self._delete(name)
                    return size
        return None

    def _delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            os.unlink(self._path(name))

    def _look(self, profile: str) -> tuple[list[File], list[File]]:
        """The files of a profile, and the parts that nobody will finish."""
        files: list[File] = []
        abandoned: list[File] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                finished = Name.of_file(entry.name)
                name = finished or Name.of_part(entry.name)
                if name is None or name.profile != profile:
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # another process was faster
                    continue
                if not stat.S_ISREG(status.st_mode):
                    continue
                file = File(name, status.st_mtime_ns, status.st_size)
                if finished:
                    files.append(file)
                elif _is_abandoned(name.process, time.time() - status.st_mtime):
                    abandoned.append(file)
        return files, abandoned


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def _is_abandoned(process: int, age: float) -> bool:
    """Whether an unfinished file of this process and age (seconds) will never be finished."""
    return age > ABANDONED_SECONDS or (age > WRITING_SECONDS and not _lives(process))


def _lives(process: int) -> bool:
    if sys.platform == "win32":  # where os.kill() would do what it says
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
