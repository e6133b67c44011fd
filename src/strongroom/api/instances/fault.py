"""The text of a fault in Trove's format: lines of at most 79 columns where it can be split, 255 in all."""

from __future__ import annotations

COLUMNS = 79
LENGTH = 255
SPLITS = ((". ", ".", ""), (" (", "", "("), (": ", ":", "    "))
"""Where a long line is split, what stays on the line, what begins the next one; tried in turn."""


def wrap_message(message: str) -> str:
    """``message`` split into lines and cut."""
    text = "\n".join(piece for line in message.splitlines() for piece in _split_message(line, 0))
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 3]}..."


def _split_message(line: str, first: int) -> list[str]:
    if len(line) <= COLUMNS:
        return [line]
    for turn in range(first, first + len(SPLITS)):
        mark, end, start = SPLITS[turn % len(SPLITS)]
        left, found, right = line.partition(mark)
        if found and left:
            return [*_split_message(left + end, turn + 1), *_split_message(start + right, turn + 1)]
    return [line]
