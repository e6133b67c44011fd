#!/usr/bin/env python3
"""Finds modules and pages that are too long, packages with too many modules side by side, and protocols with too many methods.

``scripts/check`` runs it. Another checkout can be given as an argument.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINES, MODULES, METHODS = 400, 15, 8
SERIES = "migrations/versions"
"""A package that only grows, in one order."""
RECORDS = {"benchmarks.md", "cli.md"}
"""Pages that are generated, or a record of measurements."""


def find_long_modules(root: Path) -> Iterator[tuple[str, str]]:
    """Each module with more than ``LINES`` lines, and a message."""
    for module in sorted(root.rglob("*.py")):
        if (lines := len(module.read_text().splitlines())) > LINES:
            yield str(module.relative_to(root)), f"{lines} lines; at most {LINES}"


def find_long_pages(root: Path) -> Iterator[tuple[str, str]]:
    """The same for each page in ``docs/`` that people write, and each ``conftest.py`` of the tests."""
    pages = (page for page in (root / "docs").glob("*.md") if page.name not in RECORDS)
    for page in sorted((*pages, *(root / "tests").rglob("conftest.py"))):
        if (lines := len(page.read_text().splitlines())) > LINES:
            yield str(page.relative_to(root)), f"{lines} lines; at most {LINES}"


def find_wide_packages(root: Path) -> Iterator[tuple[str, str]]:
    """Each package with more than ``MODULES`` modules, packages inside it not counted, and a message."""
    for package in sorted({file.parent for file in root.rglob("__init__.py")}):
        if (modules := len(list(package.glob("*.py"))) - 1) > MODULES and not package.match(SERIES):
            yield str(package.relative_to(root)), f"{modules} modules; at most {MODULES}"


def find_wide_protocols(root: Path) -> Iterator[tuple[str, str]]:
    """Each protocol with more than ``METHODS`` methods of its own, and a message."""
    for module in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ClassDef) and any(_is_protocol(base) for base in node.bases):
                methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
                if len(methods) > METHODS:
                    yield f"{module.relative_to(root)}:{node.name}", f"{len(methods)} methods; at most {METHODS}"


def _is_protocol(base: ast.expr) -> bool:
    base = base.value if isinstance(base, ast.Subscript) else base
    return getattr(base, "id", getattr(base, "attr", "")) == "Protocol"


def main(root: Path = ROOT) -> int:
    package = root / "src" / "strongroom"
    found = [*find_long_modules(package), *find_long_pages(root), *find_wide_packages(package), *find_wide_protocols(package)]
    lines = [f"{name}: {message}" for name, message in found]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
