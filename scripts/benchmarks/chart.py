"""Draws bar charts as SVG, readable in light and dark mode."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.outcome import number

_WIDTH, _NAME, _ROW, _TOP = 760, 330, 26, 34
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 }
.own { fill: #0a7d54 } .other { fill: #8c96a3 }
.reach { stroke: #1f2328; stroke-width: 1.5 } .floor { stroke: #c2410c; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .own { fill: #3fb98a } .other { fill: #6e7681 }
.reach { stroke: #e6edf3 } .floor { stroke: #fb923c } }
"""


def bars(title: str, values: Mapping[str, Sequence[float]], floors: Mapping[str, float], *, unit: str = "s") -> str:
    """A bar for the median of each variant, with a line from minimum to maximum, and marks for ``floors``."""
    top = max(max(found) for found in values.values()) or 1.0
    scale = (_WIDTH - _NAME - 90) / top
    height = _TOP + _ROW * len(values) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<text class="title" x="6" y="20">{escape(title)}</text>',
    ]
    for row, (name, found) in enumerate(values.items()):
        y = _TOP + _ROW * row
        middle, least, most = statistics.median(found), min(found), max(found)
        kind = "own" if name.lower().startswith("strongroom") else "other"
        parts.append(f'<text x="{_NAME - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="{kind}" x="{_NAME}" y="{y + 3}" width="{max(1.0, middle * scale):.1f}" height="16" rx="2"/>')
        if most > least:
            line = f'x1="{_NAME + least * scale:.1f}" x2="{_NAME + most * scale:.1f}" y1="{y + 11}" y2="{y + 11}"'
            parts.append(f'<line class="reach" {line}/>')
        if name in floors:
            x = _NAME + floors[name] * scale
            parts.append(f'<line class="floor" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 22}"/>')
        parts.append(f'<text x="{_NAME + most * scale + 6:.1f}" y="{y + 15}">{number(middle)} {unit}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
