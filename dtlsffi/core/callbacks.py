"""The trampolines: where OpenSSL calls Python.

Every one of them finds its Python object through the handle that C kept for it. An exception cannot travel through C,
so it is parked on that object, OpenSSL is told no, and whoever called into OpenSSL raises it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._native import CData, ffi, lib
from .arguments import check_is, exactly
from .errors import alert_name

if TYPE_CHECKING:
    from .association import Association

PasswordSource = str | bytes | bytearray | Callable[[], str | bytes | bytearray] | None


class Parking:
    """Keeps the exception that a callback raised until the caller can raise it."""

    _parked: BaseException | None  # a slot of whoever inherits this, where there are many of them

    def __init__(self) -> None:
        self._parked = None

    def _park(self, error: BaseException) -> None:
        """Keeps the first exception: the later ones only follow from it."""
        if self._parked is None:
            self._parked = error

    def _collect(self) -> None:
        """Raises what was parked, if anything was."""
        if self._parked is not None:
            error, self._parked = self._parked, None
            try:
                raise error
            finally:
                del error  # it knows this frame


def is_callback() -> bool:
    """Whether this thread is in a callback of some connection: it holds that one's lock, and must wait for nobody."""
    return bool(lib.dtlsffi_gil_callbacks())


class Password(Parking):
    """Answers OpenSSL's question for a key's password: `ssl.SSLContext.load_cert_chain`'s rules."""

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
        check_is(password, (str, bytes, bytearray), "a password is a str, bytes or bytearray")
        exact = exactly(str.encode(password) if isinstance(password, str) else password, "a password")
        if len(exact) > room:
            raise ValueError(f"password cannot be longer than {room} bytes")
        return exact


def adapted(callback: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """A callback as one of two arguments, of which it gets the second, the connection, only if it requires it.

    So callbacks written for `ssl` work as they are. Found out once, and not in every handshake.
    """
    return callback if required(callback) > 1 else lambda first, _connection: callback(first)


def required(callback: Callable[..., Any]) -> int:
    """How many positional arguments `callback` cannot do without; 0 where that cannot be known."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)


def trampoline(error: Any = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a function the one that C calls by its name, with the connection its handle leads to as first argument.

    A handle leads there by a weak reference: the connection, which holds it, is to go when nobody else has it.
    `error` is what C is told where an exception had to be parked.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(handle: CData, *arguments: Any) -> Any:
            try:
                connection: Association | None = ffi.from_handle(handle)()
                if connection is None:  # nobody is there to be asked, or to raise anything
                    return error
                return function(connection, *arguments)
            except BaseException as exception:  # noqa: BLE001 - raised again by Parking._collect()
                connection = ffi.from_handle(handle)()  # which Ctrl-C may have come before
                if connection is not None:
                    connection._park(exception)
                return error

        ffi.def_extern(name=function.__name__, error=error)(call)
        return function

    return decorate


@ffi.def_extern(error=-1)
def dtlsffi_on_password(buffer: CData, size: int, _writing: int, handle: CData) -> int:
    """pem_password_cb(3): writes the password, returns its length, or -1."""
    asker: Password = ffi.from_handle(handle)
    try:
        password = asker.answer(size)
    except BaseException as error:  # noqa: BLE001 - raised again by Parking._collect()
        asker._park(error)
        return -1
    ffi.memmove(buffer, password, len(password))
    return len(password)


@trampoline()
def dtlsffi_on_keylog(connection: Association, line: CData) -> None:
    """SSL_CTX_set_keylog_callback(3): one line, without its end."""
    connection._context._log_keys(ffi.string(line))


@trampoline()
def dtlsffi_on_trace(connection: Association, sent: int, version: int, content: int, what: int, length: int) -> None:
    """SSL_CTX_set_msg_callback(3), less the message."""
    connection._context._trace_message(connection._subject(), bool(sent), version, content, what, length)


@trampoline(0)
def dtlsffi_on_psk_client(
    connection: Association, hint: CData, identity: CData, identity_room: int, key: CData, room: int
) -> int:
    """SSL_CTX_set_psk_client_callback(3): writes identity and key, returns the key's length, or 0."""
    hint_bytes = None if hint == ffi.NULL else ffi.string(hint)
    name, secret = connection._context._psk_for_server(connection._subject(), hint_bytes, identity_room, room)
    ffi.memmove(identity, name + b"\0", len(name) + 1)
    ffi.memmove(key, secret, len(secret))
    connection._psk_identity = name
    return len(secret)


@trampoline(0xFFFF)
def dtlsffi_on_psk_server(connection: Association, identity: CData, key: CData, room: int) -> int:
    """SSL_CTX_set_psk_server_callback(3): writes the key, returns its length, or 0 for an unknown identity.

    A length that no key has is an internal error: a client whose key could not be looked up is not to hear that there
    is none.
    """
    name = ffi.string(identity)
    connection._refusal = f"the PSK identity {name!r} is not known"
    secret = connection._context._psk_for_client(connection._subject(), name, room)
    ffi.memmove(key, secret, len(secret))
    connection._psk_identity = name if secret else None
    if secret:
        connection._refusal = None
    return len(secret)


@trampoline(lib.SSL_AD_HANDSHAKE_FAILURE)
def dtlsffi_on_server_name(connection: Association, name: CData, length: int) -> int:
    """SSL_CTX_set_client_hello_cb(3): the alert to send, or -1 to go on."""
    connection._choosing = True
    try:
        asked = None if name == ffi.NULL else ffi.buffer(name, length)[:]
        answer = connection._context._choose_by_name(connection._subject(), asked)
        if answer >= 0:
            whom = (
                "a client that names no server" if asked is None else f"the name {asked.decode('ascii', 'replace')!r}"
            )
            connection._refusal = f"sni_callback refuses {whom}: {alert_name(answer)}"
        return answer
    finally:
        connection._choosing = False


@trampoline(-1)
def dtlsffi_on_certificate(connection: Association, ok: int, store: CData) -> int:
    """SSL_CTX_set_verify(3): 1 to accept what has been found of a certificate, 0 to end the handshake.

    -1 is an internal error: a peer is not to hear that its certificate is bad where that could not be looked at.
    """
    return connection._context._judge(connection, bool(ok), store)


@trampoline(-1)
def dtlsffi_on_status(connection: Association) -> int:
    """SSL_CTX_set_tlsext_status_cb(3), with its two sides' answers."""
    return connection._context._exchange_status(connection._subject())


@trampoline()
def dtlsffi_on_session_new(connection: Association, session: CData) -> None:
    """SSL_CTX_sess_set_new_cb(3)."""
    connection._origin._session_made(connection._subject(), session)


@trampoline(ffi.NULL)
def dtlsffi_on_session_get(connection: Association, identifier: CData, length: int) -> CData:
    """SSL_CTX_sess_set_get_cb(3): a session with a reference for OpenSSL, or NULL."""
    return connection._origin._session_wanted(connection._subject(), bytes(ffi.buffer(identifier, length)))
