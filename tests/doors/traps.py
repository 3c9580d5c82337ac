"""Callbacks that raise when they are told to."""

from __future__ import annotations

import dtlsffi


class Trap:
    """A trace callback that raises while it is armed, or `once`."""

    def __init__(self, context: dtlsffi.DTLSContext, *, once: bool = False) -> None:
        self.armed, self.once = False, once
        context.trace = self.trace

    def trace(self, *_: object) -> None:
        if self.armed:
            self.armed = not self.once
            raise ZeroDivisionError
