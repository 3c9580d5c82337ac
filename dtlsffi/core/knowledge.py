"""What can be asked of a connection without moving it on; every door answers in the same words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from operator import index
from typing import NoReturn

from .._native import ffi, lib, text
from . import ciphers
from .arguments import c_string, check_is, exactly, valid_timers
from .context import DTLSContext
from .errors import take_fault
from .negotiation import SRTP_LENGTHS
from .peer import Peer
from .psk import readable
from .session import DTLSSession

KEYS_MAX = 0xFFFF
"""Bytes of keys at one time: more than any protocol takes, and soon made."""

__all__ = ["CHANNEL_BINDING_TYPES", "SRTPKeys"]

CHANNEL_BINDING_TYPES = ["tls-unique", "tls-exporter"]
"""What `get_channel_binding` knows."""


@dataclass(frozen=True)
class SRTPKeys:
    """Master keys and salts for SRTP: RFC 5764 section 4.2. The client encrypts with its own, the server with its."""

    profile: str
    """The profile they are for, by OpenSSL's name."""
    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    client_salt: bytes = field(repr=False)
    server_salt: bytes = field(repr=False)


class Knowledge(Peer):
    """What is known of a connection; after `ssl.SSLSocket`."""

    def __reduce__(self) -> NoReturn:
        """Neither be pickled nor copied: two would have the one C side, and close it when one of them goes."""
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    # ---- what it was made with ----

    @property
    def context(self) -> DTLSContext:
        """The context in use. Only an `sni_callback` may set it, to another context: else ValueError, or TypeError."""
        return self._association._context

    @context.setter
    def context(self, context: DTLSContext) -> None:
        self._association._adopt(context)

    @property
    def peer(self) -> str:
        """How error messages name the peer: its host name, its address, or both."""
        return self._association._who() or "the peer"

    @property
    def server_side(self) -> bool:
        """Whether it takes the server's part."""
        return self._association._server_side

    @property
    def server_hostname(self) -> str | None:
        """The name that a client asks for, in its ASCII form (IDNA), or None; on a server None, as in ssl."""
        return self._association._server_hostname

    # ---- datagrams ----

    @property
    def mtu(self) -> int:
        """The ceiling for a datagram's UDP payload in bytes, from 208 to 65527; may be set at any time.

        Until it is set: over a socket, what the kernel knows of the path; else 1200.
        """
        return int(lib.dtlsffi_conn_mtu(self._association._conn))

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self._association._set_mtu(mtu)

    @property
    def data_mtu(self) -> int | None:
        """The largest data that `send` takes, in bytes: what fits into `mtu`, and into a record.

        None before the handshake is finished, since it depends on the cipher.
        """
        return int(lib.dtlsffi_conn_data_mtu(self._association._conn)) or None

    @property
    def retransmission(self) -> tuple[float, float, float]:
        """The handshake's timer, as `DTLSContext.retransmission`; setting it takes effect with the next flight."""
        return self._association._timers

    @retransmission.setter
    def retransmission(self, timers: tuple[float, float, float]) -> None:
        self._association._set_timers(valid_timers(timers))

    def statistics(self) -> dict[str, int]:
        """Counters since the beginning: datagrams, bytes and records in and out, retransmissions, and what was dropped.

        `dropped_junk` counts datagrams that are not DTLS, plaintext records where only encrypted ones are allowed,
        another handshake that is asked for once more, and datagrams of several large records of which `recv` had no
        room for all; `dropped_replayed` and `dropped_unauthenticated` application records that were seen before, or
        whose MAC did not fit, as far as that can be seen from outside of OpenSSL; `dropped_unsent` handshake datagrams
        that the kernel would not take; `dropped_queue_full` records for which there was no room (`max_queue`);
        `alerts_held` plaintext alerts that were held back.
        """
        counters = lib.dtlsffi_conn_stats(self._association._conn)
        return {name: int(getattr(counters, name)) for name in COUNTERS}

    # ---- what was agreed on ----

    def version(self) -> str | None:
        """The version spoken, such as `"DTLSv1.2"`, or None before the handshake is finished."""
        if not self.is_established:
            return None
        with self._association._locked() as ssl_object:
            return text(lib.SSL_get_version(ssl_object))

    def cipher(self) -> tuple[str, str, int] | None:
        """The cipher suite: name, the version that defined it, bits of secret; None before there is one."""
        with self._association._locked() as ssl_object:
            cipher = lib.SSL_get_current_cipher(ssl_object)
            return None if cipher == ffi.NULL else ciphers.summary(cipher)

    def shared_ciphers(self) -> list[tuple[str, str, int]] | None:
        """A server's view of the suites that both sides allow, in the client's order; None for a client."""
        if not self.server_side:
            return None
        with self._association._locked() as ssl_object:
            theirs, ours = lib.SSL_get_client_ciphers(ssl_object), lib.SSL_get_ciphers(ssl_object)
            if theirs == ffi.NULL:
                return None
            offered = [lib.sk_SSL_CIPHER_value(theirs, i) for i in range(lib.sk_SSL_CIPHER_num(theirs))]
            return [ciphers.summary(cipher) for cipher in offered if lib.sk_SSL_CIPHER_find(ours, cipher) >= 0]

    def compression(self) -> None:
        """None: nothing is ever compressed (RFC 7457 section 2.6)."""
        return

    def group(self) -> str | None:
        """The group of the key exchange, such as `"x25519"`; None where there was none (PSK, DHE), or not yet."""
        if not self.is_established:
            return None
        with self._association._locked() as ssl_object:
            number = lib.SSL_get_negotiated_group(ssl_object)
            name = lib.SSL_group_to_name(ssl_object, number) if number > 0 else ffi.NULL
            return None if name == ffi.NULL else text(name)

    def client_sigalg(self) -> str | None:
        """How the client signed to prove who it is, such as `"ecdsa_secp256r1_sha256"`; None where it did not."""
        return self._sigalg(own=not self.server_side)

    def server_sigalg(self) -> str | None:
        """How the server signed, likewise; None without a signature (PSK, a resumed session), or not yet."""
        return self._sigalg(own=self.server_side)

    def _sigalg(self, *, own: bool) -> str | None:
        if not self.is_established:
            return None
        with self._association._locked() as ssl_object:
            return ciphers.signature_name(ssl_object, own=own)

    def selected_alpn_protocol(self) -> str | None:
        """The application protocol agreed on (RFC 7301), or None."""
        protocol, length = ffi.new("const unsigned char **"), ffi.new("unsigned int *")
        with self._association._locked() as ssl_object:
            lib.SSL_get0_alpn_selected(ssl_object, protocol, length)
            return ffi.buffer(protocol[0], length[0])[:].decode("ascii", "backslashreplace") if length[0] else None

    # ---- pre-shared keys ----

    @property
    def psk_identity(self) -> str | None:
        """The client's identity, if the two sides know each other by a pre-shared key: RFC 4279; None before that."""
        if not self.is_established:
            return None
        with self._association._locked() as ssl_object:
            identity = lib.SSL_get_psk_identity(ssl_object)
            if identity != ffi.NULL:
                return readable(ffi.string(identity))
            # In DTLS 1.3 a pre-shared key is resumed like a session, and OpenSSL does not keep its name.
            asked = self._association._psk_identity
            used = asked is not None and lib.SSL_session_reused(ssl_object) and self.version() == "DTLSv1.3"
            return readable(asked) if used and asked is not None else None

    @property
    def psk_identity_hint(self) -> str | None:
        """The hint that the server gives, or None."""
        if self.server_side:
            return self.context._psk_hint
        with self._association._locked() as ssl_object:
            hint = lib.SSL_get_psk_identity_hint(ssl_object)
            return None if hint == ffi.NULL else readable(ffi.string(hint))

    def uses_psk(self) -> bool:
        """Whether the cipher suite uses a pre-shared key; told from the moment the handshake has chosen one."""
        with self._association._locked() as ssl_object:
            cipher = lib.SSL_get_pending_cipher(ssl_object)
            cipher = lib.SSL_get_current_cipher(ssl_object) if cipher == ffi.NULL else cipher
            return cipher != ffi.NULL and "PSK" in text(lib.SSL_CIPHER_get_name(cipher))

    # ---- sessions ----

    @property
    def session(self) -> DTLSSession | None:
        """The session, for a later connection to resume; None before there is one. Its lifetime is the server's."""
        if not self.is_established:
            return None
        with self._association._locked() as ssl_object:
            session = lib.SSL_get1_session(ssl_object)
        return None if session == ffi.NULL else self._association._make_session(session)

    @session.setter
    def session(self, session: DTLSSession) -> None:
        """Resumes a session; before the handshake only, on a client. Raises TypeError or ValueError if it cannot."""
        check_is(session, DTLSSession, "session is a DTLSSession")
        self._association._resume(session)

    @property
    def session_reused(self) -> bool:
        """Whether an earlier session was resumed."""
        with self._association._locked() as ssl_object:
            return bool(lib.SSL_session_reused(ssl_object))

    # ---- keys for others ----

    def export_keying_material(self, label: str | bytes, length: int, context: bytes | None = None) -> bytes:
        """Keys of `length` bytes for another protocol, the same on both sides: RFC 5705, SSL_export_keying_material(3).

        Below DTLS 1.3, no `context` and an empty one give different keys. Raises ValueError before the handshake is
        finished, and for a length that is not 1 to 65535, `DTLSError` for a label that is reserved, such as
        `"client finished"`.
        """
        self._need_handshake()
        if not 1 <= index(length) <= KEYS_MAX:
            raise ValueError(f"length is 1 to {KEYS_MAX} bytes, not {length}")
        name = c_string(label, "label") if isinstance(label, str) else exactly(label, "label")
        keys, extra = bytearray(index(length)), b"" if context is None else exactly(context, "context")
        with self._association._locked() as ssl_object, ffi.from_buffer("unsigned char[]", keys) as view:
            lib.ERR_clear_error()
            if lib.SSL_export_keying_material(
                ssl_object, view, length, name, len(name), extra, len(extra), context is not None
            ) != 1:  # fmt: skip
                raise take_fault(f"no keying material can be exported for the label {label!r}")
        return bytes(keys)

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """What ties another protocol to this very connection; None where it is not defined.

        `"tls-unique"` (RFC 5929) is for DTLS up to 1.2; `"tls-exporter"` (RFC 9266) needs DTLS 1.3 or the extended
        master secret. Raises ValueError for another type.
        """
        if cb_type not in CHANNEL_BINDING_TYPES:
            raise ValueError(f"{cb_type} channel binding type not implemented")
        if not self.is_established:
            return None
        if cb_type == "tls-unique":
            return None if self.version() == "DTLSv1.3" else self._first_finished()
        with self._association._locked() as ssl_object:
            extended = lib.SSL_get_extms_support(ssl_object) == 1
        if self.version() != "DTLSv1.3" and not extended:
            return None
        return self.export_keying_material("EXPORTER-Channel-Binding", 32, b"")

    def _first_finished(self) -> bytes:
        """The first Finished message of the handshake: the client's, or of a resumed session the server's."""
        buffer = ffi.new("unsigned char[128]")
        with self._association._locked() as ssl_object:
            ours = bool(lib.SSL_session_reused(ssl_object)) == self.server_side
            get = lib.SSL_get_finished if ours else lib.SSL_get_peer_finished
            return ffi.buffer(buffer, get(ssl_object, buffer, len(buffer)))[:]

    def selected_srtp_profile(self) -> str | None:
        """The SRTP protection profile agreed on (RFC 5764), by OpenSSL's name, or None."""
        if not self.is_established:
            return None
        with self._association._locked() as ssl_object:
            profile = lib.SSL_get_selected_srtp_profile(ssl_object)
            return None if profile == ffi.NULL else text(profile.name)

    def srtp_keys(self) -> SRTPKeys:
        """The keys for SRTP under the profile agreed on: RFC 5764 section 4.2.

        Raises ValueError before the handshake is finished, and where no profile was agreed on.
        """
        self._need_handshake()
        profile = self.selected_srtp_profile()
        if profile is None:
            raise ValueError("no SRTP profile was agreed on: set_srtp_profiles() on both sides")
        key, salt = SRTP_LENGTHS[profile]
        material = memoryview(self.export_keying_material("EXTRACTOR-dtls_srtp", 2 * (key + salt)))
        ends = (0, key, 2 * key, 2 * key + salt, 2 * (key + salt))
        return SRTPKeys(profile, *(bytes(material[start:end]) for start, end in itertools.pairwise(ends)))


COUNTERS: tuple[str, ...] = tuple(name for name, _ in ffi.typeof("dtlsffi_stats").fields)
