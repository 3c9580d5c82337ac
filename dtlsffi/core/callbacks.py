"""The trampolines: where OpenSSL calls Python.

Every one of them finds its Python object through the handle that C kept for it. An exception cannot travel through C,
so it is parked on that object, OpenSSL is told no, and whoever called into OpenSSL raises it.
"""

from __future__ import annotations

from collections.abc import Callable

from .._native import CData, ffi

PasswordSource = str | bytes | bytearray | Callable[[], str | bytes | bytearray] | None


class Parking:
    """Keeps the exception that a callback raised until the caller can raise it."""

    __slots__ = ("parked",)

    def __init__(self) -> None:
        self.parked: BaseException | None = None

    def park(self, error: BaseException) -> None:
        """Keeps the first exception: the later ones only follow from it."""
        if self.parked is None:
            self.parked = error

    def collect(self) -> None:
        """Raises what was parked, if anything was."""
        error, self.parked = self.parked, None
        if error is not None:
            raise error


class Password(Parking):
    """Answers OpenSSL's question for a key's password: `ssl.SSLContext.load_cert_chain`'s rules."""

    __slots__ = ("asked", "source")

    def __init__(self, source: PasswordSource) -> None:
        super().__init__()
        self.source = source
        self.asked = False

    def answer(self, room: int) -> bytes:
        """The password, of at most `room` bytes."""
        self.asked = True
        password = self.source() if callable(self.source) else self.source
        if password is None:
            raise ValueError("the private key is encrypted: give its password")
        if isinstance(password, str):
            password = password.encode()
        if not isinstance(password, (bytes, bytearray)):
            raise TypeError(f"a password is a str, bytes or bytearray, not {type(password).__name__}")
        if len(password) > room:
            raise ValueError(f"password cannot be longer than {room} bytes")
        return bytes(password)


class Link(Parking):
    """What a connection's handle leads to: the callbacks of its context."""

    __slots__ = ("log_keys",)

    def __init__(self, log_keys: Callable[[bytes], None]) -> None:
        super().__init__()
        self.log_keys = log_keys


@ffi.def_extern(error=-1)
def dtlsffi_on_password(buffer: CData, size: int, _writing: int, handle: CData) -> int:
    """pem_password_cb(3): writes the password, returns its length, or -1."""
    asker: Password = ffi.from_handle(handle)
    try:
        password = asker.answer(size)
    except BaseException as error:  # noqa: BLE001 - raised again by Parking.collect()
        asker.park(error)
        return -1
    ffi.memmove(buffer, password, len(password))
    return len(password)


@ffi.def_extern()
def dtlsffi_on_keylog(handle: CData, line: CData) -> None:
    """SSL_CTX_set_keylog_callback(3): one line, without its end."""
    link: Link = ffi.from_handle(handle)
    try:
        link.log_keys(ffi.string(line))
    except BaseException as error:  # noqa: BLE001 - raised again by Parking.collect()
        link.park(error)
