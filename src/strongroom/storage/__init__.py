"""Stores of immutable objects: put, get, head, list and delete by key. They know nothing about backups."""

from strongroom.storage._directory import DirectoryStore
from strongroom.storage._open import load, open_store
from strongroom.storage._protocol import Capabilities, JoiningStore, Stat, Store

__all__ = ["Capabilities", "DirectoryStore", "JoiningStore", "Stat", "Store", "load", "open_store"]
