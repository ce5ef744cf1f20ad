"""Go's text forms, in UTF-8: what `?debug=1` and `?debug=2` answer, and `symbol`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from pyprof_agent.errors import ProfileError
from pyprof_agent.formats.pprof import address
from pyprof_agent.profile import Frame, Profile, Sample, rounded

# What readers of lines take for the end of one, and what a terminal would act upon.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def heap(profile: Profile) -> bytes:
    """A heap or allocs profile as Go's legacy heap text, most bytes in use first.

    The rate in the heading stands for a rate of 1, which is written as twice that. Readers of
    this text scale values by it, and ours are scaled already; a comment tells the real rate.

    Raises ProfileError if the profile lacks one of Go's four heap sample types.
    """
    columns = [
        profile.column(name)
        for name in ("inuse_objects", "inuse_space", "alloc_objects", "alloc_space")
    ]
    rows = [
        (tuple([int(sample.values[column]) for column in columns]), sample)
        for sample in rounded(profile).samples
    ]
    rows.sort(key=lambda row: (-row[0][1], -row[0][3], row[1].stack))
    totals = tuple([sum(values[index] for values, _ in rows) for index in range(4)])
    lines = [f"heap profile: {_heap_counts(totals)} @ heap/2"]
    for values, sample in rows:
        lines.append(f"{_heap_counts(values)} @ {_addresses(sample)}")
        lines.extend(_frame_lines(sample.stack))
        lines.append("")
    lines.append("")
    lines.extend(_comments(profile))
    return _encoded("\n".join(lines))


def count(name: str, profile: Profile) -> bytes:
    """A profile of one count (`goroutine`, `threadcreate`) as Go's text, largest first.

    Rows that differ in their labels only are one row here, as labels have no place in it.

    Raises ProfileError if the profile has more than one sample type.
    """
    if len(profile.sample_types) != 1:
        raise ProfileError(f"{name} has {len(profile.sample_types)} sample types; one is wanted")
    totals: dict[tuple[Frame, ...], int] = {}
    for sample in rounded(profile).samples:
        totals[sample.stack] = totals.get(sample.stack, 0) + int(sample.values[0])
    lines = [f"{name} profile: total {sum(totals.values())}"]
    for stack, value in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"{value} @ {_addresses(Sample(stack, ()))}")
        lines.extend(_frame_lines(stack))
        lines.append("")
    lines.extend(_comments(profile))
    return _encoded("\n".join(lines))


def contention(name: str, profile: Profile) -> bytes:
    """A profile of waiting for locks (`block`, `mutex`) as Go's text, most waiting first.

    Raises ProfileError if the profile lacks one of the sample types contentions and delay.
    """
    columns = [profile.column(column) for column in ("delay", "contentions")]
    rows = [
        (tuple([int(sample.values[column]) for column in columns]), sample)
        for sample in rounded(profile).samples
    ]
    rows.sort(key=lambda row: (-row[0][0], -row[0][1], row[1].stack))
    # Go calls the text of its block profile by another name, and readers know no other.
    lines = ["--- mutex:" if name.endswith("mutex") else "--- contention:"]
    lines.append("cycles/second=1000000000")  # a cycle is a nanosecond here
    if name.endswith("mutex"):
        lines.append("sampling period=1")
    for (delay, contentions), sample in rows:
        lines.append(f"{delay} {contentions} @ {_addresses(sample)}")
        lines.extend(_frame_lines(sample.stack))
    lines.extend(_comments(profile))
    return _encoded("\n".join(lines))


def symbols(asked: str, names: Mapping[int, str]) -> bytes:
    """What `symbol` answers: a line `ADDRESS NAME` for each address that has a name.

    asked: addresses joined by `+`; what is none of them is passed over
    names: function names by address
    """
    lines = ["num_symbols: 1"]  # pprof only asks whether it is 0
    for word in asked.split("+"):
        try:
            place = int(word.strip(), 0)
        except ValueError:
            continue
        # Readers ask for the call, one before what stands in a stack; people copy that.
        name = names.get(place) or names.get(place - 1)
        if name is not None:
            lines.append(f"{place:#x} {_on_one_line(name)}")
    return _encoded("\n".join(lines))


def dump(profile: Profile) -> bytes:
    """Every thread and task as a paragraph of its own, innermost frame first.

    The labels `kind`, `id`, `name` and `state`, if there is one, make the heading, as in
    `task 140120 "Task-7" [waiting for Future]:`.
    """
    paragraphs = [f"{len(profile.samples)} stacks"]
    for sample in profile.samples:
        state = sample.label("state")
        name = _on_one_line(str(sample.label("name")))
        heading = f'{sample.label("kind")} {sample.label("id")} "{name}"'
        lines = [f"{heading} [{state}]:" if state else f"{heading}:"]
        for frame in sample.stack:
            lines.append(_on_one_line(frame.function))
            if frame.filename:
                lines.append(f"\t{_on_one_line(frame.filename)}:{frame.line}")
        paragraphs.append("\n".join(lines))
    paragraphs.extend(_comments(profile))
    return _encoded("\n\n".join(paragraphs))


def _encoded(content: str) -> bytes:
    # A file name that is not UTF-8 has surrogates in it.
    return (content + "\n").encode("utf-8", "backslashreplace")


def _heap_counts(values: Iterable[int]) -> str:
    inuse_objects, inuse_space, alloc_objects, alloc_space = values
    return f"{inuse_objects}: {inuse_space} [{alloc_objects}: {alloc_space}]"


def _comments(profile: Profile) -> Iterator[str]:
    return (f"# {_on_one_line(comment)}" for comment in profile.comments)


def _on_one_line(name: str) -> str:
    """Without line breaks, which a file name or that of a generated function may have."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], name)


def _addresses(sample: Sample) -> str:
    # As in Go, where a stack holds addresses to return to, and all else those of the calls:
    # readers of the text take one off, and find what the protobuf has and `symbol` knows.
    return " ".join(f"{address(frame) + 1:#x}" for frame in sample.stack)


def _frame_lines(stack: tuple[Frame, ...]) -> Iterator[str]:
    for frame in stack:
        # Go appends the offset into the function; here it is counted in lines.
        offset = max(frame.line - frame.first_line, 0)
        function, filename = _on_one_line(frame.function), _on_one_line(frame.filename)
        place = f"{filename}:{frame.line}" if filename else "-"
        yield f"#\t{address(frame):#x}\t{function}+{offset:#x}\t{place}"
