"""Stores of every driver."""

from support.swift import swift

__all__ = ["swift"]
