"""Checks of error messages by their parts: place, value and remedy."""

from __future__ import annotations


def mentions(message: str, *parts: str) -> bool:
    """Return whether `message` contains all `parts`, in this order."""
    position = 0
    for part in parts:
        position = message.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return True
