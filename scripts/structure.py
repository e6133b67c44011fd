#!/usr/bin/env python3
"""Finds modules that are too long, packages with too many modules side by side, and protocols with too many methods.

``scripts/check`` runs it. Another directory than the project's own package can be given as an argument.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINES, MODULES, METHODS = 400, 15, 8
NOT_YET = {
    "datastores/protocol/datastore.py:Datastore",
    "datastores/protocol/datastore.py:Galera",
}
"""Modules, packages and protocols that are being split, as they are reported. To be emptied."""


def find_long_modules(root: Path) -> Iterator[tuple[str, str]]:
    """Each module with more than ``LINES`` lines, and a message."""
    for module in sorted(root.rglob("*.py")):
        if (lines := len(module.read_text().splitlines())) > LINES:
            yield str(module.relative_to(root)), f"{lines} lines; at most {LINES}"


def find_wide_packages(root: Path) -> Iterator[tuple[str, str]]:
    """Each package with more than ``MODULES`` modules, packages inside it not counted, and a message."""
    for package in sorted({file.parent for file in root.rglob("__init__.py")}):
        if (modules := len(list(package.glob("*.py"))) - 1) > MODULES:
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


def main(root: Path = ROOT / "src" / "strongroom") -> int:
    found = [*find_long_modules(root), *find_wide_packages(root), *find_wide_protocols(root)]
    lines = [f"{name}: {message}" for name, message in found if name not in NOT_YET]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
