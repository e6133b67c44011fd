"""Stores of every driver."""

from support.keystone import keystone
from support.swift import keystone_swift, own_swift, short_keystone_swift, swift

__all__ = ["keystone", "keystone_swift", "own_swift", "short_keystone_swift", "swift"]
