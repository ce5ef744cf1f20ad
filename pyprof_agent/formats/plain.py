"""Names as one line of text holds them, whatever a program calls its functions."""

from __future__ import annotations


def one_line(name: str) -> str:
    """The name with what is not printable, line breaks among it, as escapes like `\\n`."""
    if name.isprintable():
        return name
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "backslashreplace").decode("ascii")
        for letter in name
    )
