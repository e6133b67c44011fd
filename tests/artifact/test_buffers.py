"""Memory that is lent comes back when the last view of it is gone, and not earlier."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strongroom.artifact.segments.buffers import Buffers


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 64)), max_size=60))
def test_buffers_in_use_are_never_overwritten(steps: list[tuple[bool, int, int]]) -> None:
    buffers = Buffers(64)
    held: dict[int, tuple[memoryview, int]] = {}
    for number, (lend, slot, size) in enumerate(steps):
        if lend:
            held.pop(slot, None)
            whole = buffers.lend(size)
            assert len(whole) == size and whole.format == "B" and not whole.readonly
            whole[:] = bytes([number % 256]) * size
            held[slot] = (whole[size // 2 :], number % 256)  # a part is enough to hold all of it
            del whole
        else:
            held.pop(slot, None)
        for view, value in held.values():
            assert view.tobytes() == bytes([value]) * len(view)


def test_memory_is_used_again() -> None:
    buffers = Buffers(8)
    first = buffers.lend(8)
    first[:] = b"of first"
    second = buffers.lend(8)
    part = first[3:]
    del first
    assert buffers.lend(8).tobytes() == bytes(8)  # fresh
    del part
    assert buffers.lend(8).tobytes() == b"of first"
    del second
    assert buffers.lend(3).tobytes() == b"\0" * 3
