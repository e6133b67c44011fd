#!/usr/bin/env python3
"""Finds words and phrases that must not come back: those that read like a translation, and second names for one thing.

``scripts/check`` runs it. A phrase matches whole words in any case, also across the end of a line. In pages, code and generated
parts are not read. To check more files, extend FILES; to reject more, extend PHRASES, which must have no match when you do.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_YET = {"benchmarks.md", "cli.md", "configuration.md"}
"""Pages to be rewritten first. Most of their text is generated from the code."""
FILES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "changelog.d" / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in NOT_YET),
]
PHRASES = {
    "aborts": ["gives? way", "gave way"],
    "adopt, manage": ["into care", "in care"],
    "adopted server": ["servers? of (somebody|someone) else"],
    "again": ["anew"],
    "as usual": ["as ever"],
    "automatically": ["by itself", "by themselves"],
    "computed": ["reckon(s|ed)?"],
    "connects as": ["comes? in as"],
    "continue": ["go on", "goes on", "went on"],
    "is not available": ["(cannot|can|could|to) be had"],
    "dropped": ["lets? go of"],
    "foreign": ["strangers?"],
    "ignored": ["passed over"],
    "includes": ["(brings?|comes?) (it |them |its chain |everything )?along"],
    "instead of": ["in the place of"],
    "is based on, has as its parent": ["stands? on", "stood on"],
    "most advanced": ["farthest"],
    "operation, request": ["deeds?", "wish(es)?", "doomed", "victims?"],
    "package": ["rooms?"],
    "previous data": ["(put|kept|set) aside", "old data"],
    "says, shows, reports": ["(is|are) said", "(is|are|was) told", "tells? of", "told of"],
    "Strongroom": ["we", "ours", "without us"],
    "trusted, cached": ["believe[ds]?"],
    "unreachable": ["(is|are) away", "in the silence"],
}
"""The better wording, and regular expressions for what it replaces."""
_CODE = re.compile(
    r"^ *```.*?^ *```|^    .*?$|`[^`]*`|<!-- (?P<part>\w+): begin -->.*?<!-- (?P=part): end -->|<!--.*?-->|\]\([^)]*\)",
    re.MULTILINE | re.DOTALL,
)


def blank_code(page: str) -> str:
    """The page with dots for code, generated parts, comments and targets of links."""
    return _CODE.sub(lambda code: re.sub(r"[^\n]", ".", code[0]), page)


def find_phrases(text: str) -> list[tuple[int, str, str]]:
    """Line, phrase and the better wording of every match."""
    found = []
    for better, phrases in PHRASES.items():
        pattern = r"\b(?:" + "|".join(phrases).replace(" ", r"\s+") + r")\b"
        for match in re.finditer(pattern, text, re.IGNORECASE):
            found.append((text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), better))
    return sorted(found)


def main() -> int:
    lines = [
        f'{file.relative_to(ROOT)}:{line}: "{phrase}"; better: {better}'
        for file in FILES
        for line, phrase, better in find_phrases(blank_code(file.read_text()))
    ]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
