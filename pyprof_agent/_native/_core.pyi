from types import CodeType
from typing import NewType, TypedDict, TypeVar

Snapshot = NewType("Snapshot", object)
_T = TypeVar("_T")

class _StackStats(TypedDict):
    ticks: int
    unreadable: int
    retried: int
    overflowed: int
    stacks: int
    frames: int
    own_bytes: int
    cpu: int
    period: int
    slowed: bool

MAX_FRAMES: int
MARKER_CUT: int
MARKER_NO_FRAME: int
MARKER_NO_GIL: int
MARKER_OVERFLOW: int
MARKER_UNREADABLE: int
THREAD_YOUNG: int
THREAD_OTHERS: int

def heap_start(sample_bytes: float, max_frames: int, /) -> None: ...
def heap_stop() -> None: ...
def heap_repair() -> bool: ...
def heap_snapshot(first_node: int, /) -> tuple[Snapshot, int, int]: ...
def heap_compact() -> bool: ...
def heap_stats() -> dict[str, int]: ...
def stack_start(hz: float, max_cpu: float, max_frames: int, look_back_seconds: int, /) -> None: ...
def stack_stop() -> None: ...
def stack_pause() -> None: ...
def stack_resume() -> None: ...
def stack_snapshot(
    first_node: int, moment_ns: int, /
) -> tuple[
    Snapshot,
    int,
    int,
    list[tuple[int, int, int, bool, int]],
    int,
    int,
    int,
    int,
]: ...
def stack_stats() -> _StackStats: ...
def snapshot_nodes(
    snapshot: Snapshot, start: int, stop: int, /
) -> tuple[list[CodeType | None], list[int]]: ...
def snapshot_stacks(
    snapshot: Snapshot, start: int, stop: int, frames: list[_T], /
) -> list[tuple[_T, ...]]: ...
def snapshot_values(snapshot: Snapshot, start: int, stop: int, /) -> list[tuple[int, ...]]: ...
def snapshot_threads(snapshot: Snapshot, start: int, stop: int, /) -> list[int]: ...
def own_stack(limit: int, /) -> list[tuple[CodeType, int]]: ...
def own_stack_walked() -> list[tuple[CodeType, int]]: ...
