"""Programs that are measured: started, asked, ended. They speak in lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
Sample = dict[str, Any]


class Skipped(Exception):
    """A program cannot do what is to be measured; why, is said."""


class Failed(Exception):
    """A program ended where it should not have."""


@dataclass(frozen=True)
class Subject:
    """What is measured: its name, how it is called, and what is said where it is not there."""

    name: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    missing: str = ""

    def with_options(self, *options: str, name: str = "", **environment: str) -> Subject:
        """The same with more options."""
        return Subject(
            name or self.name,
            self.command,
            (*self.options, *options),
            self.environment | environment,
            self.missing,
        )


def python(module: str) -> tuple[str, ...]:
    """The command of one of our programs in Python."""
    return (sys.executable, "-m", f"benchmarks.subjects.{module}")


@contextmanager
def held_to(cpus: Sequence[int]) -> Iterator[None]:
    """Whatever begins here runs on these CPUs from its first thread on; Go counts them only once."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Program:
    """One of them, running."""

    def __init__(self, subject: Subject, role: str, *options: str, cpus: Sequence[int] = ()) -> None:
        if subject.missing:
            raise Skipped(subject.missing)
        self.subject = subject
        self._errors = tempfile.TemporaryFile("w+")
        command = [*subject.command, role, *subject.options, *options]
        with held_to(cpus):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=ROOT,
                env=os.environ | {"PYTHONHASHSEED": "0"} | subject.environment,
            )
        self.pid = self._process.pid

    def read(self, patience: float = 60) -> Sample:
        """Its next line."""
        assert self._process.stdout is not None
        watchdog = threading.Timer(patience, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            self._process.wait(5)
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:]
            raise Failed(f"{self.subject.name} ended with status {self._process.returncode}: {' '.join(last)}")
        words: Sample = json.loads(line)
        if "skipped" in words:
            raise Skipped(words["skipped"])
        return words

    def ask(self, command: str, patience: float = 60) -> Sample:
        """Gives it a command, and reads the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it has said last says why
        return self.read(patience)

    def end(self) -> None:
        """Closes its stdin, which is its order to end; after a while it is ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


@contextmanager
def running(subject: Subject, role: str, *options: str, cpus: Sequence[int] = ()) -> Iterator[Program]:
    """A program for the time being."""
    program = Program(subject, role, *options, cpus=cpus)
    try:
        yield program
    finally:
        program.end()


def ask_once(subject: Subject, role: str, *options: str, cpus: Sequence[int] = (), patience: float = 60) -> Sample:
    """A program that says one thing."""
    with running(subject, role, *options, cpus=cpus) as program:
        return program.read(patience)
