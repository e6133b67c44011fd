"""Keeps libraries from loading others that are needed rarely or never."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
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


@contextmanager
def defer_names(module: str, *names: str) -> Iterator[None]:
    """What is imported from the module within the block loads the module when it is called, or something of it is used.

    This is for functions, and for classes that nobody derives from.
    """
    deferred = ModuleType(module)
    for name in names:
        setattr(deferred, name, _DeferredName(module, name))
    with _replace({module: deferred}):
        yield


class _DeferredName:
    """Stands for a function or a class of a module."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._load()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by the import system
            raise AttributeError(name)
        return getattr(self._load(), name)

    def _load(self) -> Any:
        return getattr(import_module(self._module), self._name)


class _Deferred(ModuleType):
    """Stands for a module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by the import system
            raise AttributeError(name)
        return getattr(import_module(self.__name__), name)


@contextmanager
def _replace(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Let imports find these; modules that are loaded already stay. Call it from the thread that loads the program."""
    replaced = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(replaced)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in replaced:
            del sys.modules[name]
