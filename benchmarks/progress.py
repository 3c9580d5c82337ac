"""How far it is: bars on a terminal where rich is installed, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class Task:
    """Something that takes so many steps."""

    def __init__(self, name: str, total: int, bars: Any) -> None:
        self._bars = bars
        self._id = bars.add_task(name, total=total) if bars is not None else None
        self._name = name
        self._first = True

    def step(self, what: str) -> None:
        """One of them begins."""
        if self._bars is not None:
            self._bars.update(self._id, description=f"{self._name}: {what}", advance=0 if self._first else 1)
        self._first = False


class Progress:
    """All tasks of a run."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._bars: Any = None
        if sys.stderr.isatty() and not silent:
            try:
                from rich import console, progress  # noqa: PLC0415 - an extra
            except ImportError:
                return
            self._bars = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                progress.TimeRemainingColumn(),
                console=console.Console(stderr=True),
            )

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        """A bar, or a line when it is over."""
        begin = time.monotonic()
        task = Task(name, total, self._bars)
        yield task
        if self._bars is not None:
            self._bars.update(task._id, description=name, completed=total)
        elif not self._silent:
            print(f"{name}: {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
