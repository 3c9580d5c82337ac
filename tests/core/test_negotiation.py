"""dtlsffi.core.negotiation: groups, signatures, ALPN, SRTP, SNI. Versions and ciphers are in test_context.py."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import dtlsffi
from dtlsffi import Connection, DTLSContext
from dtlsffi.testing import Authority, MemoryLink
from tests.helpers import FAST, HOST, load, start

Contexts = tuple[DTLSContext, DTLSContext]


@pytest.fixture
def contexts(client_context: DTLSContext, server_context: DTLSContext) -> Contexts:
    return client_context, server_context


def connect(client: DTLSContext, server: DTLSContext, hostname: str = HOST) -> MemoryLink:
    return MemoryLink(Connection(client, server_hostname=hostname), Connection(server, server_side=True))


def shaken(client: DTLSContext, server: DTLSContext, hostname: str = HOST) -> MemoryLink:
    link = connect(client, server, hostname)
    link.shake_hands()
    return link


# ---- groups and signatures ----


@pytest.mark.parametrize(("group", "name"), [("X25519", "x25519"), ("P-384", "secp384r1"), ("prime256v1", "secp256r1")])
def test_a_group_is_agreed_on(contexts: Contexts, authority: Authority, group: str, name: str) -> None:
    """Both sides know which; before the handshake nobody does."""
    client, server = contexts[0], DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    load(server, authority.issue(HOST, rsa=True))  # an ECDSA certificate's curve would have to be among the groups
    client.set_groups(f"{group}:P-521")
    server.set_ecdh_curve(group)
    link = connect(client, server)
    assert link.client.group() is None
    link.shake_hands()
    assert link.client.group() == link.server.group() == name


def test_no_group_in_common(contexts: Contexts) -> None:
    """The server cannot find a suite either."""
    client, server = contexts
    client.set_groups("X25519")
    server.set_groups("P-384")
    with pytest.raises(dtlsffi.DTLSError, match="NO_SHARED_CIPHER"):
        connect(client, server).shake_hands()


def test_signatures_are_named(contexts: Contexts, authority: Authority) -> None:
    """The server's always, the client's where it has a certificate."""
    client, server = contexts
    link = shaken(client, server)
    assert link.client.server_sigalg() == link.server.server_sigalg() == "ecdsa_secp256r1_sha256"
    assert link.client.client_sigalg() is link.server.client_sigalg() is None


def test_signatures_are_chosen(authority: Authority) -> None:
    """Those of the server and of the client apart."""
    client, server = authority.client_context(), DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
    load(client, authority.issue("client.example", rsa=True))
    load(server, authority.issue(HOST, rsa=True))
    server.load_verify_locations(cadata=authority.certificate)
    server.verify_mode = dtlsffi.CERT_REQUIRED
    client.set_server_sigalgs("rsa_pss_rsae_sha384:RSA+SHA256")
    client.set_client_sigalgs("rsa_pss_rsae_sha256:RSA+SHA512")
    server.set_client_sigalgs("rsa_pkcs1_sha512")
    link = shaken(client, server)
    assert link.client.server_sigalg() == link.server.server_sigalg() == "rsa_pss_rsae_sha384"
    assert link.client.client_sigalg() == link.server.client_sigalg() == "rsa_pkcs1_sha512"
    assert connect(client, server).client.server_sigalg() is None


def test_a_resumed_session_has_no_signature(contexts: Contexts) -> None:
    """Nothing was signed."""
    client, server = contexts
    session = shaken(client, server).client.session
    again = MemoryLink(Connection(client, server_hostname=HOST, session=session), Connection(server, server_side=True))
    again.shake_hands()
    assert again.client.session_reused
    assert again.client.server_sigalg() is None


@pytest.mark.parametrize("setter", ["set_groups", "set_server_sigalgs", "set_client_sigalgs"])
def test_unknown_names_are_refused(contexts: Contexts, setter: str) -> None:
    """By name; the context still works as before."""
    client, server = contexts
    with pytest.raises(dtlsffi.DTLSError, match="unknown .* in 'no-such-thing'"):
        getattr(client, setter)("no-such-thing")
    with pytest.raises(TypeError, match="is a str, not list"):
        getattr(client, setter)(["X25519"])
    with pytest.raises(ValueError, match="NUL"):
        getattr(client, setter)("X25519\0")
    shaken(client, server)


def test_lists_of_what_could_be_agreed_on() -> None:
    """From the OpenSSL that has them; a clear error before that, as in ssl."""
    context = DTLSContext()
    if dtlsffi.OPENSSL_VERSION_INFO >= (3, 5):
        assert "x25519" in [name.lower() for name in context.get_groups()]
        assert set(context.get_groups()) < set(context.get_groups(include_aliases=True))
    else:
        with pytest.raises(NotImplementedError, match="requires OpenSSL 3.5"):
            context.get_groups()
    if dtlsffi.OPENSSL_VERSION_INFO >= (3, 4):
        assert "ed25519" in dtlsffi.get_sigalgs()
    else:
        with pytest.raises(NotImplementedError, match="requires OpenSSL 3.4"):
            dtlsffi.get_sigalgs()


def test_parameters_for_dhe(contexts: Contexts, authority: Authority, tmp_path: Path) -> None:
    """DHE suites work by themselves, and with parameters of one's own."""
    client, _ = contexts
    client.set_ciphers("DHE-RSA-AES128-GCM-SHA256")
    file = tmp_path / "dh.pem"
    subprocess.run(["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe3072",
                    "-out", str(file)], check=True, capture_output=True)  # fmt: skip
    lengths: list[int] = []
    for own in (False, True):
        server = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
        load(server, authority.issue(HOST, rsa=True))
        if own:
            server.load_dh_params(file)
        server.trace = lambda _, event: lengths.append(event.length) if event.name == "server_key_exchange" else None
        link = shaken(client, server)
        assert link.client.cipher() == ("DHE-RSA-AES128-GCM-SHA256", "TLSv1.2", 128)
        assert link.client.group() is None
    own_length, given_length = lengths[1], lengths[0]
    assert own_length == given_length + 2 * (3072 - 2048) // 8, "a prime and a public value, each of another length"
    with pytest.raises(TypeError, match="dhfile is a file name, not bytes"):
        DTLSContext().load_dh_params(file.read_bytes())  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        DTLSContext().load_dh_params(tmp_path / "none")
    file.write_text("-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n")
    with pytest.raises(dtlsffi.DTLSError, match=r"dh\.pem' holds no readable DH parameters"):
        DTLSContext().load_dh_params(file)


def test_suites_of_dtls_1_3_need_dtls_1_3(contexts: Contexts) -> None:
    """A clear error elsewhere."""
    client, _ = contexts
    if dtlsffi.HAS_DTLSv1_3:
        client.set_ciphersuites("TLS_AES_128_GCM_SHA256")
        with pytest.raises(dtlsffi.DTLSError, match="unknown suites"):
            client.set_ciphersuites("NO-SUCH-SUITE")
    else:
        with pytest.raises(NotImplementedError, match="this OpenSSL has no DTLS 1.3"):
            client.set_ciphersuites("TLS_AES_128_GCM_SHA256")


# ---- ALPN ----


@pytest.mark.parametrize(
    ("offered", "known", "chosen"),
    [
        (["coap", "webrtc"], ["webrtc", "coap"], "webrtc"),  # the server's order counts
        (["coap"], ["coap"], "coap"),
        (["coap"], ["webrtc"], None),
        (["coap"], [], None),
        ([], ["coap"], None),
        (["x" * 255, "y"], ["y"], "y"),
    ],
)
def test_an_application_protocol_is_agreed_on(
    contexts: Contexts, offered: list[str], known: list[str], chosen: str | None
) -> None:
    """RFC 7301; without one in common the handshake goes on, as in ssl."""
    client, server = contexts
    if offered:
        client.set_alpn_protocols(offered)
    if known:
        server.set_alpn_protocols(known)
    link = connect(client, server)
    assert link.client.selected_alpn_protocol() is None
    link.shake_hands()
    assert link.client.selected_alpn_protocol() == link.server.selected_alpn_protocol() == chosen


def test_protocols_can_be_taken_back(contexts: Contexts) -> None:
    """By an empty list, as in ssl."""
    client, server = contexts
    for context in contexts:
        context.set_alpn_protocols(["coap"])
    server.set_alpn_protocols([])
    assert shaken(client, server).client.selected_alpn_protocol() is None


@pytest.mark.parametrize("names", ["h2", b"h2", [b"h2"], [2]])
def test_protocols_are_a_list_of_str(names: Any) -> None:
    """What ssl would take for "h" and "2" is refused."""
    with pytest.raises(TypeError, match="alpn_protocols is a list of str"):
        DTLSContext().set_alpn_protocols(names)


@pytest.mark.parametrize("names", [[""], ["x" * 256], ["x" * 255] * 257])
def test_protocol_names_have_their_size(contexts: Contexts, names: list[str]) -> None:
    """1 to 255 bytes, 65535 in all."""
    with pytest.raises(ValueError, match=r"65535|1 to 255 bytes"):
        contexts[0].set_alpn_protocols(names)


def test_protocols_can_be_set_again(contexts: Contexts) -> None:
    """The last list counts."""
    client, server = contexts
    for context in contexts:
        context.set_alpn_protocols(["one"])
        context.set_alpn_protocols(["two", "one"])
    assert shaken(client, server).client.selected_alpn_protocol() == "two"


# ---- SRTP ----


@pytest.mark.parametrize(
    ("profile", "key", "salt"),
    [
        ("SRTP_AES128_CM_SHA1_80", 16, 14),
        ("SRTP_AES128_CM_SHA1_32", 16, 14),
        ("SRTP_AEAD_AES_128_GCM", 16, 12),
        ("SRTP_AEAD_AES_256_GCM", 32, 12),
    ],
)
def test_both_sides_have_the_same_srtp_keys(contexts: Contexts, profile: str, key: int, salt: int) -> None:
    """RFC 5764 section 4.2; four different secrets, none of them shown."""
    client, server = contexts
    client.set_srtp_profiles(["SRTP_AES128_CM_SHA1_80", profile] if salt == 12 else profile)
    server.set_srtp_profiles([profile])
    link = shaken(client, server)
    keys = link.client.srtp_keys()
    assert keys == link.server.srtp_keys()
    assert link.client.selected_srtp_profile() == keys.profile == profile
    secrets = [keys.client_key, keys.server_key, keys.client_salt, keys.server_salt]
    assert [len(secret) for secret in secrets] == [key, key, salt, salt]
    assert len(set(secrets)) == 4
    assert repr(keys) == f"SRTPKeys(profile={profile!r})"


def test_no_srtp_profile_no_keys(contexts: Contexts) -> None:
    """Nothing in common is no failure of the handshake, but there are no keys."""
    client, server = contexts
    client.set_srtp_profiles(["SRTP_AEAD_AES_128_GCM"])
    server.set_srtp_profiles(["SRTP_AES128_CM_SHA1_80"])
    link = connect(client, server)
    with pytest.raises(ValueError, match="handshake not done yet"):
        link.client.srtp_keys()
    link.shake_hands()
    assert link.client.selected_srtp_profile() is None
    with pytest.raises(ValueError, match="no SRTP profile was agreed on"):
        link.client.srtp_keys()
    for bad in (["SRTP_NULL"], [], ""):
        with pytest.raises(ValueError, match="SRTP profile"):
            DTLSContext().set_srtp_profiles(bad)


# ---- SNI ----


@pytest.fixture
def other(authority: Authority) -> DTLSContext:
    """A server by another name."""
    context = authority.server_context("other.example")
    context.retransmission = FAST
    return context


def test_a_server_has_many_names(contexts: Contexts, other: DTLSContext) -> None:
    """The callback hears the name and may go on with another context."""
    client, server = contexts
    heard: list[Any] = []

    def choose(connection: Any, name: str | None, context: DTLSContext) -> None:
        heard.append((connection, name, context))
        if name == "other.example":
            connection.context = other

    server.sni_callback = choose
    assert server.sni_callback is choose
    for name in (HOST, "other.example"):
        link = shaken(client, server, name)
        assert heard.pop() == (link.server, name, server)
        assert ("DNS", name) in link.client.getpeercert()["subjectAltName"]  # type: ignore[index]
        assert link.server.context is (other if name == "other.example" else server)
    nameless = shaken(client, server, "127.0.0.1")
    assert heard == [(nameless.server, None, server)]


def test_the_name_is_heard_in_its_ascii_form(contexts: Contexts, authority: Authority) -> None:
    """IDNA, as in ssl."""
    client, _ = contexts
    server = authority.server_context("xn--bcher-kva.example")
    names: list[str | None] = []
    server.set_servername_callback(lambda _connection, name, _context: names.append(name))
    shaken(client, server, "bücher.example")
    assert names == ["xn--bcher-kva.example"]


def test_the_other_context_counts_in_full(contexts: Contexts, other: DTLSContext, authority: Authority) -> None:
    """Not its certificate alone: its verification, too, and its pre-shared keys and its trace."""
    client, server = contexts
    other.load_verify_locations(cadata=authority.certificate)
    other.verify_mode = dtlsffi.CERT_REQUIRED
    traced: list[Any] = []
    other.trace = lambda _connection, event: traced.append(event)

    def choose(connection: Any, name: str | None, _context: DTLSContext) -> None:
        connection.context = other

    server.sni_callback = choose
    with pytest.raises(dtlsffi.DTLSError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        connect(client, server, "other.example").shake_hands()
    assert traced
    with_certificate = authority.client_context()
    load(with_certificate, authority.issue("client.example"))
    link = shaken(with_certificate, server, "other.example")
    assert link.server.getpeercert()["subjectAltName"] == (("DNS", "client.example"),)  # type: ignore[index]


def test_the_other_contexts_rules_replace_the_firsts(contexts: Contexts, other: DTLSContext) -> None:
    """They are not added to them: versions and flags."""
    client, server = contexts
    server.security_level = client.security_level = 0
    server.minimum_version = client.minimum_version = dtlsffi.DTLSVersion.DTLSv1
    client.maximum_version = dtlsffi.DTLSVersion.DTLSv1
    for context in (client, server):
        context.set_ciphers("ALL:@SECLEVEL=0")
    server.sni_callback = lambda connection, *_: setattr(connection, "context", other)
    with pytest.raises(dtlsffi.DTLSError, match="UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION"):
        connect(client, server, "other.example").shake_hands()


def test_the_others_flags_replace_the_firsts(authority: Authority, other: DTLSContext) -> None:
    """A partial chain is good for the first only."""
    client, server = authority.client_context(), authority.server_context(HOST)
    identity = authority.issue("client.example")
    load(client, identity)
    for context in (server, other):
        context.load_verify_locations(cadata=identity.certificate)
        context.verify_mode = dtlsffi.CERT_REQUIRED
    server.verify_flags |= dtlsffi.VERIFY_X509_PARTIAL_CHAIN
    shaken(client, server)
    front = authority.server_context(HOST)
    front.verify_flags |= dtlsffi.VERIFY_X509_PARTIAL_CHAIN
    front.sni_callback = lambda connection, *_: setattr(connection, "context", other)
    with pytest.raises(dtlsffi.DTLSCertVerificationError):
        connect(client, front, "other.example").shake_hands()


def test_a_name_can_be_refused(contexts: Contexts) -> None:
    """With an alert of the callback's choice."""
    client, server = contexts
    server.sni_callback = lambda *_: dtlsffi.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    link = connect(client, server)
    start_and_fail(link, dtlsffi.DTLSError, "CALLBACK_FAILED")
    assert "unrecognized_name (alert 112)" in str(link.client.alert_held())
    with pytest.raises(dtlsffi.DTLSError, match=r"sni_callback refuses the name 'device\.example': unrecognized_name"):
        link.server.do_handshake()


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda *_: "no", TypeError, "returns None or an AlertDescription, not 'no'"),
        (lambda *_: 256, TypeError, "not 256"),
        (lambda *_: 1 // 0, ZeroDivisionError, "by zero"),
        (lambda connection, *_: setattr(connection, "context", "x"), TypeError, "context is a DTLSContext, not str"),
    ],
)
def test_a_callback_that_fails_ends_the_handshake(
    contexts: Contexts, answer: Any, error: type[Exception], words: str
) -> None:
    """Its exception comes out of the call, the client gets an alert."""
    client, server = contexts
    server.sni_callback = answer
    link = connect(client, server)
    start_and_fail(link, error, words)
    assert "handshake_failure (alert 40)" in str(link.client.alert_held())


def start_and_fail(link: MemoryLink, error: type[Exception], words: str) -> None:
    """The handshake, up to the server's refusal, which reaches the client."""
    start(link.client)
    link.client.handle_timer()
    with pytest.raises(error, match=words):
        link.shake_hands()
    for datagram in link.server.datagrams_to_send():
        link.client.receive_datagram(datagram)


def test_the_context_is_the_callbacks_to_change(contexts: Contexts, other: DTLSContext, authority: Authority) -> None:
    """On the server, and before the handshake is finished."""
    client, server = contexts
    link = connect(client, server)
    with pytest.raises(ValueError, match="by a server's sni_callback only"):
        link.client.context = other
    link.shake_hands()
    with pytest.raises(ValueError, match="by a server's sni_callback only"):
        link.server.context = other
    for setter in ("set_psk_server_callback", "set_ocsp_server_callback"):
        late = DTLSContext(dtlsffi.PROTOCOL_DTLS_SERVER)
        load(late, authority.issue(HOST))
        getattr(late, setter)(lambda *arguments: setattr(arguments[-1], "context", other))
        asking = authority.client_context()
        asking.set_ocsp_client_callback(lambda *_: True)
        if setter == "set_psk_server_callback":
            late.set_psk_server_callback(lambda _, connection: setattr(connection, "context", other))  # type: ignore[func-returns-value]
            asking.set_ciphers("PSK")
            asking.set_psk_client_callback(lambda _: ("me", b"key"))
        with pytest.raises(ValueError, match="by a server's sni_callback only"):
            connect(asking, late).shake_hands()
    with pytest.raises(ValueError, match="sni_callback cannot be set on a PROTOCOL_DTLS_CLIENT context"):
        DTLSContext(dtlsffi.PROTOCOL_DTLS_CLIENT).sni_callback = print
    with pytest.raises(TypeError, match="sni_callback is a callable or None, not int"):
        DTLSContext().sni_callback = 1  # type: ignore[assignment]


def test_a_client_that_can_be_a_server_does_not_ask(contexts: Contexts, authority: Authority) -> None:
    """A callback of a PROTOCOL_DTLS context is for its servers."""
    _, server = contexts
    client = DTLSContext(dtlsffi.PROTOCOL_DTLS)
    client.load_verify_locations(cadata=authority.certificate)
    client.sni_callback = lambda *_: 40
    shaken(client, server)


def test_a_name_that_is_no_name_is_the_clients_failure(contexts: Contexts) -> None:
    """Bytes from the network raise nothing of Python's."""
    client, server = contexts
    server.sni_callback = lambda *_: None
    link = connect(client, server)
    hello = start(link.client)[0]
    assert HOST.encode() in hello
    with pytest.raises(dtlsffi.DTLSError, match="CALLBACK_FAILED"):
        link.server.receive_datagram(hello.replace(HOST.encode(), b"\xff" + HOST.encode()[1:]))
