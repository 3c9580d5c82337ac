"""dtlsffi.core.certificates, through DTLSContext.load_cert_chain and load_verify_locations."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import dtlsffi
from dtlsffi._native import lib
from dtlsffi.core import certificates
from dtlsffi.testing import Authority, Identity, MemoryLink
from tests.helpers import HOST


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue(HOST)


@pytest.fixture
def server() -> dtlsffi.DTLSContext:
    return dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)


def key_of(identity: Identity) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(identity.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def der_certificate(identity: Identity) -> bytes:
    return x509.load_pem_x509_certificate(identity.certificate).public_bytes(serialization.Encoding.DER)


def encoded_key(identity: Identity, encoding: str, form: str, password: bytes | None = None) -> bytes:
    return key_of(identity).private_bytes(
        getattr(serialization.Encoding, encoding),
        getattr(serialization.PrivateFormat, form),
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )


def works(client: dtlsffi.DTLSContext, server: dtlsffi.DTLSContext) -> bool:
    """Whether a verified handshake comes about."""
    link = MemoryLink(dtlsffi.Connection(client, server_hostname=HOST), dtlsffi.Connection(server, server_side=True))
    link.shake_hands()
    return link.client.getpeercert() is not None


# ---- our own certificate ----

FORMS = {
    "files": lambda i, tmp: (write(tmp / "c.pem", i.certificate), write(tmp / "k.pem", i.key)),
    "one file": lambda i, tmp: (write(tmp / "both.pem", i.key + i.certificate),),
    "file names as str": lambda i, tmp: (str(write(tmp / "c.pem", i.certificate)), str(write(tmp / "k.pem", i.key))),
    "PEM bytes": lambda i, _: (i.certificate, i.key),
    "PEM bytes in one": lambda i, _: (i.certificate + i.key,),
    "bytearray": lambda i, _: (bytearray(i.certificate), bytearray(i.key)),
    "DER bytes, PKCS#8": lambda i, _: (der_certificate(i), encoded_key(i, "DER", "PKCS8")),
    "DER bytes, SEC1": lambda i, _: (der_certificate(i), encoded_key(i, "DER", "TraditionalOpenSSL")),
    "DER files": lambda i, tmp: (
        write(tmp / "c.der", der_certificate(i)),
        write(tmp / "k.der", encoded_key(i, "DER", "PKCS8")),
    ),
}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_certificate_and_key_come_in_every_form(
    form: str, identity: Identity, tmp_path: Path, server: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext
) -> None:
    """Files or bytes, PEM or DER, one or two of them."""
    make: Callable[[Identity, Path], tuple[bytes, ...]] = FORMS[form]
    server.load_cert_chain(*make(identity, tmp_path))
    assert works(client_context, server)


PASSWORDS = {
    "str": "sesame",
    "bytes": b"sesame",
    "bytearray": bytearray(b"sesame"),
    "callable returning str": lambda: "sesame",
    "callable returning bytes": lambda: b"sesame",
}


@pytest.mark.parametrize("encoding", ["PEM", "DER"])
@pytest.mark.parametrize("kind", PASSWORDS)
def test_encrypted_key_takes_a_password_of_any_kind(
    kind: str, encoding: str, identity: Identity, server: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext
) -> None:
    """As ssl.SSLContext.load_cert_chain does."""
    key = encoded_key(identity, encoding, "PKCS8", b"sesame")
    server.load_cert_chain(identity.certificate, key, PASSWORDS[kind])
    assert works(client_context, server)


def test_password_is_not_asked_for_a_key_in_the_clear(identity: Identity, server: dtlsffi.DTLSContext) -> None:
    """The callable is called only if needed."""

    def never() -> str:
        raise AssertionError("asked")

    server.load_cert_chain(identity.certificate, identity.key, never)


def test_exception_of_a_password_callable_reaches_the_caller(identity: Identity, server: dtlsffi.DTLSContext) -> None:
    """Whatever it is."""

    def refuse() -> str:
        raise LookupError("no such password")

    with pytest.raises(LookupError, match="no such password"):
        server.load_cert_chain(identity.certificate, encoded_key(identity, "PEM", "PKCS8", b"x"), refuse)


BAD_PASSWORDS = {
    "wrong": ("guess", dtlsffi.DTLSError, "the password is wrong"),
    "none": (None, ValueError, "the private key is encrypted: give its password"),
    "too long": ("x" * 2000, ValueError, "cannot be longer than 1024 bytes"),
    "no text": (42, TypeError, "password should be a string or callable"),
    "callable returning no text": (lambda: 42, TypeError, "not int"),
}


@pytest.mark.parametrize("kind", BAD_PASSWORDS)
def test_bad_password_is_said_and_changes_nothing(
    kind: str, identity: Identity, server: dtlsffi.DTLSContext, client_context: dtlsffi.DTLSContext
) -> None:
    """And OpenSSL never prompts on the terminal."""
    password, error, words = BAD_PASSWORDS[kind]
    server.load_cert_chain(identity.certificate, identity.key)
    with pytest.raises(error, match=words) as caught:
        server.load_cert_chain(identity.certificate, encoded_key(identity, "PEM", "PKCS8", b"sesame"), password)  # type: ignore[arg-type]
    assert "sesame" not in str(caught.value)
    assert "guess" not in str(caught.value)
    assert works(client_context, server)


UNUSABLE = {
    "no certificate in the file": (lambda i, o: (i.key,), "holds no readable certificate"),
    "empty": (lambda i, o: (b"", i.key), "is empty"),
    "broken PEM": (lambda i, o: (i.certificate.replace(b"M", b"!", 5), i.key), "holds no readable certificate"),
    "broken second certificate": (
        lambda i, o: (i.certificate + i.certificate.replace(b"MII", b"MIX"), i.key),
        "a certificate that cannot be read",
    ),
    "broken DER": (lambda i, o: (der_certificate(i)[:-3], i.key), "holds no certificate, in PEM or in DER form"),
    "no key": (lambda i, o: (i.certificate,), "holds no readable private key"),
    "broken key": (lambda i, o: (i.certificate, i.key.replace(b"M", b"!", 3)), "holds no readable private key"),
    "another's key": (lambda i, o: (i.certificate, o.key), "does not belong to the certificate"),
    "a key of another kind": (lambda i, o: (i.certificate, o.key), "does not belong to the certificate"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_material_is_said_and_changes_nothing(
    kind: str,
    authority: Authority,
    identity: Identity,
    server: dtlsffi.DTLSContext,
    client_context: dtlsffi.DTLSContext,
) -> None:
    """The context goes on with what it had."""
    make, words = UNUSABLE[kind]
    other = authority.issue("other.example", rsa="kind" in kind)
    server.load_cert_chain(identity.certificate, identity.key)
    with pytest.raises(dtlsffi.DTLSError, match=words) as caught:
        server.load_cert_chain(*make(identity, other))
    assert caught.value.reason
    assert works(client_context, server)
    link = MemoryLink(
        dtlsffi.Connection(client_context, server_hostname=HOST), dtlsffi.Connection(server, server_side=True)
    )
    link.shake_hands()
    assert link.client.getpeercert(binary_form=True) == der_certificate(identity)


def test_mismatched_key_has_ssls_reason(authority: Authority, identity: Identity, server: dtlsffi.DTLSContext) -> None:
    """What code written to ssl looks for."""
    with pytest.raises(dtlsffi.DTLSError) as caught:
        server.load_cert_chain(identity.certificate, authority.issue("x.example").key)
    assert (caught.value.library, caught.value.reason) == ("X509", "KEY_VALUES_MISMATCH")


def test_missing_file_is_file_not_found(tmp_path: Path, identity: Identity, server: dtlsffi.DTLSContext) -> None:
    """With its name, for either file."""
    missing = tmp_path / "missing.pem"
    with pytest.raises(FileNotFoundError, match="missing.pem"):
        server.load_cert_chain(missing)
    with pytest.raises(FileNotFoundError, match="missing.pem"):
        server.load_cert_chain(identity.certificate, missing)


def test_neither_name_nor_contents_is_a_type_error(server: dtlsffi.DTLSContext, identity: Identity) -> None:
    """With the argument's name."""
    with pytest.raises(TypeError, match="certificate is a file name"):
        server.load_cert_chain(42)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="private key is a file name"):
        server.load_cert_chain(identity.certificate, 42)  # type: ignore[arg-type]


def test_key_material_is_wiped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, identity: Identity) -> None:
    """The copy that was read for OpenSSL is cleared, whether the key was good or not."""
    copies: list[bytearray] = []
    read = certificates.read

    def spy(source: certificates.Source, what: str) -> bytearray:
        copies.append(read(source, what))
        return copies[-1]

    monkeypatch.setattr(certificates, "read", spy)
    certificates.private_key(write(tmp_path / "k.pem", identity.key))
    with pytest.raises(dtlsffi.DTLSError):
        certificates.private_key(identity.key[:-40])
    assert len(copies) == 2
    assert all(copy and not any(copy) for copy in copies)


# ---- authorities ----


def crl_der(pem: bytes) -> bytes:
    return x509.load_pem_x509_crl(pem).public_bytes(serialization.Encoding.DER)


def test_authorities_come_in_every_form(authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    """A file, PEM as str or bytes, DER one behind the other, revocation lists among them."""
    pem, other = authority.certificate, stranger.certificate
    der = [x509.load_pem_x509_certificate(p).public_bytes(serialization.Encoding.DER) for p in (pem, other)]
    crl = authority.revoke()
    both = write(tmp_path / "both.pem", b"# a comment\n" + pem + crl + other)
    for arguments, x509s, crls in (
        ({"cafile": both}, 2, 1),
        ({"cafile": str(both)}, 2, 1),
        ({"cadata": (pem + other).decode()}, 2, 0),
        ({"cadata": pem + other + crl}, 2, 1),
        ({"cadata": der[0] + der[1]}, 2, 0),
        ({"cadata": crl_der(crl)}, 0, 1),
        ({"cafile": write(tmp_path / "ca.der", der[0]), "cadata": crl}, 1, 1),
    ):
        context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
        context.load_verify_locations(**arguments)  # type: ignore[arg-type]
        assert context.cert_store_stats() == {"x509": x509s, "x509_ca": x509s, "crl": crls}, arguments
        if x509s == 2:
            assert sorted(context.get_ca_certs(binary_form=True)) == sorted(der)


def test_unusable_authorities_are_said_and_change_nothing(authority: Authority, tmp_path: Path) -> None:
    """Half a bundle is not trusted."""
    pem = authority.certificate
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    encrypted = b"-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC," + b"00" * 16 + b"\n\n"
    for data, words in (
        (b"neither", "cannot be read"),
        (encrypted + b"AAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (pem + pem.replace(b"MII", b"MIX"), "cannot be read"),
        (der + b"trailing", "cannot be read"),
        (authority.issue("x.example").key, "holds neither a certificate nor a revocation list"),
        (write(tmp_path / "empty.pem", b""), "empty"),
    ):
        with pytest.raises(dtlsffi.DTLSError, match=words):
            if isinstance(data, Path):
                context.load_verify_locations(cafile=data)
            else:
                context.load_verify_locations(cadata=data)
    with pytest.raises(dtlsffi.DTLSError):
        context.load_verify_locations(cafile=write(tmp_path / "good.pem", pem), cadata=b"bad")
    with pytest.raises(FileNotFoundError):
        context.load_verify_locations(cafile=tmp_path / "missing", cadata=pem)
    with pytest.raises(FileNotFoundError):
        context.load_verify_locations(capath=f"{tmp_path}{os.pathsep}{tmp_path / 'missing'}", cadata=pem)
    with pytest.raises(NotADirectoryError):
        context.load_verify_locations(capath=tmp_path / "good.pem", cadata=pem)
    with pytest.raises(ValueError, match="cadata is empty"):
        context.load_verify_locations(cadata="")
    with pytest.raises(TypeError, match="cadata is a str of ASCII"):
        context.load_verify_locations(cadata="\u20ac")
    with pytest.raises(TypeError, match="cannot be all omitted"):
        context.load_verify_locations()
    with pytest.raises(TypeError, match="contents go into cadata"):
        context.load_verify_locations(cafile=pem)  # type: ignore[arg-type]
    assert context.cert_store_stats()["x509"] == 0


def test_capath_is_read_when_needed(authority: Authority, tmp_path: Path, server_context: dtlsffi.DTLSContext) -> None:
    """A directory as openssl-rehash(1) makes it."""
    import subprocess

    write(tmp_path / "ca.pem", authority.certificate)
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True)
    client = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    client.load_verify_locations(capath=str(tmp_path))
    assert client.cert_store_stats()["x509"] == 0
    assert works(client, server_context)
    assert client.cert_store_stats()["x509"] == 1


def test_contents_as_text_do_not_end_up_in_an_error(server: dtlsffi.DTLSContext, identity: Identity) -> None:
    """A str names a file; one that is a key is not shown."""
    with pytest.raises(ValueError, match="private key is a str, which names a file, but holds PEM") as caught:
        server.load_cert_chain(identity.certificate, identity.key.decode())
    assert identity.key.decode().splitlines()[1] not in str(caught.value)


def test_what_is_refused_leaves_nothing_to_others(identity: Identity, server: dtlsffi.DTLSContext) -> None:
    """OpenSSL keeps errors by thread, and Python's ssl would find ours there."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="device.example")
    for kind, (password, error, _) in BAD_PASSWORDS.items():
        with pytest.raises(error):
            server.load_cert_chain(identity.certificate, encoded_key(identity, "PEM", "PKCS8", b"x"), password)
        assert lib.ERR_peek_last_error() == 0, kind
        with pytest.raises(ssl.SSLWantReadError):
            theirs.do_handshake()


def test_a_password_callable_may_use_the_context_but_not_change_it(
    identity: Identity, server: dtlsffi.DTLSContext
) -> None:
    """What is in use stays as it is."""

    def use() -> str:
        dtlsffi.Connection(server, server_side=True)
        return "x"

    with pytest.raises(RuntimeError, match="in use since"):
        server.load_cert_chain(identity.certificate, encoded_key(identity, "PEM", "PKCS8", b"x"), use)
    assert server.fingerprint() is None


def test_a_capath_may_have_empty_parts(authority: Authority, tmp_path: Path) -> None:
    """As in PATH; but not those alone."""
    context = dtlsffi.DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT)
    context.load_verify_locations(capath=f"{os.pathsep}{tmp_path}{os.pathsep}", cadata=authority.certificate)
    with pytest.raises(ValueError, match="capath names no directory"):
        context.load_verify_locations(capath=os.pathsep)
