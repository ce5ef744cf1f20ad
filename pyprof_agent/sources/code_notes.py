"""Notes on code objects that do not keep these alive: generated code comes and goes."""

from __future__ import annotations

import weakref
from types import CodeType
from typing import Generic, TypeVar

_V = TypeVar("_V")

NOTE_BYTES = 200
"""Memory of a note, without its value."""


class _Note(weakref.ref[CodeType], Generic[_V]):
    __slots__ = ("number", "value")
    number: int
    value: _V


class CodeNotes(Generic[_V]):
    """Values by code object, for as long as this lives.

    By identity: code objects that are equal are told apart. Threads may use it at the same time.

    limit: past so many all are forgotten
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._notes: dict[int, _Note[_V]] = {}
        # Filled where a code object dies, which may be in the middle of anything: by a method in
        # C, which runs no code of ours there.
        self._dead: list[weakref.ref[CodeType]] = []

    def __len__(self) -> int:
        return len(self._notes)

    @property
    def own_bytes(self) -> int:
        """The memory of the notes, without their values."""
        return NOTE_BYTES * len(self._notes)

    def get(self, code: CodeType) -> _V | None:
        """The value of a code object; None if it has none."""
        note = self._notes.get(id(code))
        # Another one may have had its id before it.
        return note.value if note is not None and note() is code else None

    def put(self, code: CodeType, value: _V) -> None:
        """Note a value, in the place of the one before."""
        if len(self._notes) >= self._limit:
            self._notes, self._dead = {}, []
        note: _Note[_V] = _Note(code, self._dead.append)
        note.number, note.value = id(code), value
        self._notes[note.number] = note

    def sweep(self) -> bool:
        """Forget those that have died since the last call; whether any have."""
        died = False
        while self._dead:
            try:
                note = self._dead.pop()
            except IndexError:  # another thread was faster
                break
            died = True
            if isinstance(note, _Note) and self._notes.get(note.number) is note:
                self._notes.pop(note.number, None)
        return died
