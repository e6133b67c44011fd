"""Stores of immutable objects: put, get, head, list, delete by key. Know nothing of backups."""

from strongroom.storage._directory import DirectoryStore
from strongroom.storage._open import load, open_store
from strongroom.storage._protocol import Capabilities, Joining, Stat, Store

__all__ = ["Capabilities", "DirectoryStore", "Joining", "Stat", "Store", "load", "open_store"]
