"""Stores of immutable objects: put, get, head, list, delete by key. Know nothing of backups."""

from strongroom.storage._protocol import Capabilities, Stat, Store

__all__ = ["Capabilities", "Stat", "Store"]
