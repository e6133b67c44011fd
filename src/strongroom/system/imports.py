"""Keeps libraries from loading others that are needed rarely or never."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


@contextmanager
def hide_packages(*names: str) -> Iterator[None]:
    """Within the block, importing these packages fails, unless they are loaded already."""
    with _replace(dict.fromkeys(names)):
        yield


@contextmanager
def defer_modules(*names: str) -> Iterator[None]:
    """What is imported within the block loads these modules when it uses something of them, not at once.

    Name packages before their modules. This does not work for ``from module import name``, except for modules.
    """
    deferred = {name: _Deferred(name) for name in names}
    for name, module in deferred.items():
        package, _, child = name.rpartition(".")
        if package in deferred:
            setattr(deferred[package], child, module)
    with _replace(deferred):
        yield


class _Deferred(ModuleType):
    """Stands for a module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by the import system
            raise AttributeError(name)
        return getattr(import_module(self.__name__), name)


@contextmanager
def _replace(modules: dict[str, _Deferred] | dict[str, None]) -> Iterator[None]:
    """Let imports find these; modules that are loaded already stay. Call it from the thread that loads the program."""
    replaced = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(replaced)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in replaced:
            del sys.modules[name]
