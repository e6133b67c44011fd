"""Positions in the WAL: the two hexadecimal halves of a 64-bit number, separated by a slash."""

from __future__ import annotations

import re

PATTERN = r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}"


def parse_lsn(text: str) -> int:
    """Convert text such as ``1/2A000028`` to a number. Raises ValueError."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"{text!r} is no position in the WAL")
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(number: int) -> str:
    """Format a position as the server does."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def list_segments(timeline: int, start: int, stop: int, size: int) -> list[str]:
    """Names of the WAL files of ``size`` bytes that contain the positions from ``start`` to before ``stop``."""
    each = (1 << 32) // size
    return [f"{timeline:08X}{n // each:08X}{n % each:08X}" for n in range(start // size, (stop - 1) // size + 1)]
