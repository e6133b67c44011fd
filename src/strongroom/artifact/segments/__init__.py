"""Segments: compression, encryption, memory, the index of their contents."""
