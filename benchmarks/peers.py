"""The other libraries: who they are, and whether they are here."""

from __future__ import annotations

from importlib.util import find_spec

from .programs import Subject, python
from .suite import Bench

OURS = "dtlsffi"
PYOPENSSL = "pyOpenSSL"
MBEDTLS = "python-mbedtls"
TRIO = "trio"
PION = "pion (Go)"
STDLIB = "ssl over TCP"


def ours(bench: Bench, module: str, name: str, *options: str, **environment: str) -> Subject:
    """One of our own programs."""
    return Subject(f"{OURS}, {name}", python(module), (*bench.files, *options), environment)


def our_servers(bench: Bench) -> list[Subject]:
    """Those of ours that have one port for many peers."""
    return [ours(bench, "ours_echo", "Endpoint"), ours(bench, "ours_asyncio", "asyncio")]


def installed(bench: Bench, name: str, module: str, package: str, said: str) -> Subject:
    """A program for a library of Python's, if that is installed."""
    missing = "" if find_spec(package) else f"{said} is not installed"
    return Subject(name, python(module), bench.files, missing=missing)


def pyopenssl(bench: Bench) -> Subject:
    return installed(bench, PYOPENSSL, "pyopenssl", "OpenSSL", "pyOpenSSL")


def mbedtls(bench: Bench) -> Subject:
    return installed(bench, MBEDTLS, "mbedtls_peer", "mbedtls", "python-mbedtls")


def trio(bench: Bench) -> Subject:
    subject = installed(bench, TRIO, "trio_peer", "trio", "trio")
    if not subject.missing and not find_spec("OpenSSL"):
        return Subject(TRIO, subject.command, missing="trio's DTLS needs pyOpenSSL, which is not installed")
    return subject


def stdlib(bench: Bench) -> Subject:
    return Subject(STDLIB, python("stdlib_tcp"), bench.files)


def pion(bench: Bench) -> Subject:
    if isinstance(bench.pion, str):
        return Subject(PION, (), missing=bench.pion)
    return Subject(PION, (str(bench.pion),), bench.files)
