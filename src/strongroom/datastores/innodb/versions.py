"""Version numbers, as MariaDB and MySQL write them."""

from __future__ import annotations

import re

NUMBER = r"\d+\.\d+(?:\.\d+)?"


def extract_number(text: str) -> str:
    """``9.7.4`` of ``9.7.4-2-debug``; calendar versions (``26.7``) may have two parts only. The text if it has no number."""
    match = re.match(NUMBER, text)
    return match[0] if match else text


def make_sort_key(number: str) -> tuple[int, ...]:
    """A key for comparing versions: three numbers, so that ``26.7`` is ``26.7.0``."""
    found = [int(part) for part in re.findall(r"\d+", extract_number(number))]
    return tuple(found + [0] * (3 - len(found)))


def extract_series(number: str) -> str:
    """``9.7`` of ``9.7.4``, ``26.10`` of ``26.10.1``."""
    return ".".join(number.split(".")[:2])
