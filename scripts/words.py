#!/usr/bin/env python3
"""Finds words and phrases that must not come back: those that read like a translation, and second names for one thing.

``scripts/check`` runs it. A phrase matches whole words in any case, also across the end of a line. In pages, code and generated
parts are not read. In Python files, names (the words between underscores), comments and strings (docstrings, messages) are read.
To check more files, extend FILES or PYTHON; to reject more, extend PHRASES.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_YET: set[str] = set()
"""Pages to be rewritten first. Most of their text is generated from the code."""
FILES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "changelog.d").glob("*.md")),
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in NOT_YET),
]
PYTHON = [
    "scripts/*.py",
    "scripts/benchmarks/*.py",
    "src/strongroom/*.py",
    "src/strongroom/agent/*.py",
    "src/strongroom/agent/*/*.py",
    "src/strongroom/api/**/*.py",
    "src/strongroom/archive/*.py",
    "src/strongroom/artifact/**/*.py",
    "src/strongroom/cli/**/*.py",
    "src/strongroom/sections/*.py",
    "src/strongroom/catalog/*.py",
    "src/strongroom/datastores/**/*.py",
    "src/strongroom/flows/**/*.py",
    "src/strongroom/identity/*.py",
    "src/strongroom/storage/*.py",
    "src/strongroom/system/*.py",
    "src/strongroom/worker/*.py",
    "tests/api/*.py",
    "tests/archive/*.py",
    "tests/catalog/*.py",
    "tests/cli/*.py",
    "tests/identity/*.py",
    "tests/storage/*.py",
    "tests/system/*.py",
    "tests/worker/*.py",
]
"""Finished modules, as patterns below the project. This one contains the phrases and is not read."""
PHRASES = {
    "aborts": ["gives? way", "gave way"],
    "adopt, manage": ["into care", "in care"],
    "adopted server": ["servers? of (somebody|someone) else"],
    "again": ["anew"],
    "allowed": ["lets? (pass|in)"],
    "as usual": ["as ever"],
    "atomically": ["at once or not at all"],
    "automatically": ["by itself", "by themselves"],
    "available": ["at hand"],
    "beginning": ["the begin of"],
    "is reported as": ["blame[sd]?"],
    "computed": ["reckon(s|ed)?"],
    "connects as": ["comes? in as"],
    "continue": ["go on", "goes on", "went on"],
    "is not available": ["(cannot|can|could|to) be had"],
    "correct": ["mend"],
    "contacted": ["spoken to"],
    "cycle": ["(turns|goes) in a circle"],
    "does not exist": ["(is|are) not there"],
    "dropped": ["lets? go of"],
    "except": ["save for"],
    "foreign": ["strangers?"],
    "has no, lacks": ["(has|have) not got"],
    "ignored": ["passed over"],
    "includes": ["(brings?|comes?) (it |them |its chain |everything )?along"],
    "instead of": ["in the place of"],
    "is based on, has as its parent": ["stands? on", "stood on"],
    "most advanced": ["farthest"],
    "newest first": ["the (newest|oldest|smallest) first"],
    "nobody, a user, another process": ["anybody", "somebody"],
    "operation, request": ["deeds?", "wish(es)?", "doomed", "victims?"],
    "package": ["rooms?"],
    "previous data": ["(put|kept|set) aside", "old data"],
    "says, shows, reports": ["(is|are) said", "(is|are|was) told", "tells? of", "told of"],
    "Strongroom": ["we", "ours", "without us"],
    "trusted, cached": ["believe[ds]?"],
    "the data is": ["the data are", "these data"],
    "unencrypted": ["in the clear"],
    "unreachable": ["(is|are) away", "in the silence"],
}
"""The better wording, and regular expressions for what it replaces."""
_CODE = re.compile(
    r"^ *```.*?^ *```|^    .*?$|`[^`]*`|<!-- (?P<part>\w+): begin -->.*?<!-- (?P=part): end -->|<!--.*?-->|\]\([^)]*\)",
    re.MULTILINE | re.DOTALL,
)


_FSTRING = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)
"""Since Python 3.12, the text in an f-string is a token."""
_QUOTES = re.compile(r"""\b[bfru]*["']+|["'#]+""", re.IGNORECASE)


def blank_code(page: str) -> str:
    """The page with dots for code, generated parts, comments and targets of links."""
    return _CODE.sub(lambda code: re.sub(r"[^\n]", ".", code[0]), page)


def blank_syntax(module: str) -> str:
    """The module with dots for everything but names, comments and strings, and spaces for quotes with their prefixes."""
    lines = [[*re.sub(r"[^\n\s]", ".", line)] for line in module.splitlines(keepends=True)]
    for token in tokenize.generate_tokens(io.StringIO(module).readline):
        if token.type in (tokenize.NAME, tokenize.COMMENT, tokenize.STRING, _FSTRING):
            row, column, name = token.start[0] - 1, token.start[1], token.type == tokenize.NAME
            for number, text in enumerate(token.string.splitlines(keepends=True)):
                at = column if number == 0 else 0
                lines[row + number][at : at + len(text)] = (
                    text.replace("_", ".") if name else _QUOTES.sub(lambda quote: " " * len(quote[0]), text)
                )
    return "".join(map("".join, lines))


def find_phrases(text: str) -> list[tuple[int, str, str]]:
    """Line, phrase and the better wording of every match."""
    found = []
    for better, phrases in PHRASES.items():
        pattern = r"\b(?:" + "|".join(phrases).replace(" ", r"\s+") + r")\b"
        for match in re.finditer(pattern, text, re.IGNORECASE):
            found.append((text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), better))
    return sorted(found)


def main() -> int:
    modules = sorted({file for pattern in PYTHON for file in ROOT.glob(pattern)} - {Path(__file__).resolve()})
    texts = {file: blank_code(file.read_text()) for file in FILES} | {file: blank_syntax(file.read_text()) for file in modules}
    lines = [
        f'{file.relative_to(ROOT)}:{line}: "{phrase}"; better: {better}'
        for file, text in texts.items()
        for line, phrase, better in find_phrases(text)
    ]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
