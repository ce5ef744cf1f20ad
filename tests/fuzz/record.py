"""Record the memory of real threads, for the fuzzer: `make fuzz-record`, for the Python it runs on.

Writes tests/fuzz/recordings/3.x.bin.gz: of each of some threads what one walk has read, as it was
when it was read last. Little-endian words of 64 bits: a magic number, the version, the addresses
that record_facts() gives, the number of recordings; of each its thread's state and id, the newest
thread's state, whether the thread waited, how many frames the walk found, the number of segments;
of each segment its address, its length in bytes, and the bytes, filled up to whole words.
"""

from __future__ import annotations

import ctypes
import gzip
import struct
import sys
import tempfile
import threading
from pathlib import Path

from tests.fuzz.build import FOLDER, compile_library, name_of_version
from tests.fuzz.threads import THREADS, parked, running

MAGIC = 0x314345524B4C4157
ROOM = 1 << 20
ATTEMPTS = 100_000
WHOLE, TORN = range(2)

Memory = dict[int, int]
"""The byte at each address."""


def memory_of(log: bytes) -> Memory:
    """The memory that a walk read; of bytes that it read twice, the last read."""
    memory: Memory = {}
    at = 0
    while at < len(log):
        address, length = struct.unpack_from("<QQ", log, at)
        at += 16
        for offset in range(length):
            memory[address + offset] = log[at + offset]
        at += length
    return memory


def segments(memory: Memory) -> list[tuple[int, bytes]]:
    """Its stretches, in order."""
    found: list[tuple[int, bytearray]] = []
    for address in sorted(memory):
        if not found or found[-1][0] + len(found[-1][1]) != address:
            found.append((address, bytearray()))
        found[-1][1].append(memory[address])
    return [(address, bytes(stretch)) for address, stretch in found]


class Recorder:
    """Walks threads of this process."""

    def __init__(self, library: Path) -> None:
        self.walker = ctypes.CDLL(str(library))  # without the GIL
        self.walker.record_walk.restype = ctypes.c_bool
        self.facts = (ctypes.c_uint64 * 6)()
        self.buffer = ctypes.create_string_buffer(ROOM)
        self.asker = ctypes.PyDLL(str(library))

    def walk(self, thread: threading.Thread, wanted: int, steady: bool) -> bytes | None:
        """A recording of a walk that ended so; None if none does."""
        result = (ctypes.c_uint64 * 4)()
        self.asker.record_facts(self.facts)
        if not self.walker.record_walk(
            ctypes.c_uint64(self.facts[5]),
            ctypes.c_uint64(self.facts[4]),
            ctypes.c_uint64(thread.native_id or 0),
            ctypes.c_int(wanted),
            ctypes.c_int(ATTEMPTS),
            self.buffer,
            ctypes.c_size_t(ROOM),
            result,
        ):
            return None
        state, ident, frames, length = result
        found = segments(memory_of(self.buffer.raw[:length]))
        parts = [struct.pack("<QQQQQQ", state, ident, self.facts[5], steady, frames, len(found))]
        for address, stretch in found:
            parts.append(struct.pack("<QQ", address, len(stretch)))
            parts.append(stretch + bytes(-len(stretch) % 8))
        return b"".join(parts)


def record() -> bytes:
    """All recordings of this version."""
    recordings: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(compile_library(Path(folder) / "record.so"))
        for function in THREADS:
            over = threading.Event()
            still, busy = parked(function, over), running(function, over)
            for thread, end in ((still, WHOLE), (busy, WHOLE), (busy, TORN)):
                recording = recorder.walk(thread, end, thread is still)
                print(
                    f"{function.__name__}, {'busy' if thread is busy else 'parked'}: "
                    f"{'none' if recording is None else f'{len(recording)} bytes'}"
                )
                if recording is not None:
                    recordings.append(recording)
            over.set()
            busy.join()
        version = sys.version_info[0] << 8 | sys.version_info[1]
        head = struct.pack("<QQ5QQ", MAGIC, version, *recorder.facts[:5], len(recordings))
    return head + b"".join(recordings)


def main() -> None:
    """Write the file."""
    target = FOLDER / "recordings" / f"{name_of_version()}.bin.gz"
    target.write_bytes(gzip.compress(record(), 9, mtime=0))
    print(f"{target.name}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
