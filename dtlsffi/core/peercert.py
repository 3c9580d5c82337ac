"""What a certificate says, in the dictionary that `ssl.SSLSocket.getpeercert` made everybody's habit."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

from .._native import CData, ffi, lib, text
from .errors import take_fault


def decode(x509: CData) -> dict[str, Any]:
    """A certificate (an X509) as `ssl.SSLSocket.getpeercert` gives it.

    Keys: `subject`, `issuer`, `version`, `serialNumber`, `notBefore`, `notAfter`, and where the certificate has them
    `subjectAltName`, `OCSP`, `caIssuers`, `crlDistributionPoints`. Raises `DTLSError` where it is malformed.
    """
    said: dict[str, Any] = {
        "subject": name(lib.X509_get_subject_name(x509)),
        "issuer": name(lib.X509_get_issuer_name(x509)),
        "version": lib.X509_get_version(x509) + 1,
        "serialNumber": printed(lib.i2a_ASN1_INTEGER, lib.X509_get0_serialNumber(x509)),
        "notBefore": printed(lib.ASN1_TIME_print, lib.X509_get0_notBefore(x509)),
        "notAfter": printed(lib.ASN1_TIME_print, lib.X509_get0_notAfter(x509)),
    }
    maybe = {
        "subjectAltName": tuple(alternative_names(x509)),
        "OCSP": tuple(access(x509, lib.NID_ad_OCSP)),
        "caIssuers": tuple(access(x509, lib.NID_ad_ca_issuers)),
        "crlDistributionPoints": tuple(distribution_points(x509)),
    }
    return said | {key: value for key, value in maybe.items() if value}


def printed(printer: Callable[[CData, CData], int], value: CData) -> str:
    """What one of OpenSSL's functions prints of `value`."""
    bio = ffi.gc(lib.BIO_new(lib.BIO_s_mem()), lib.BIO_free)
    if printer(bio, value) <= 0:
        raise take_fault("a certificate's field cannot be read")
    length = lib.BIO_pending(bio)
    buffer = ffi.new("char[]", length)
    lib.BIO_read(bio, buffer, length)
    return ffi.buffer(buffer, length)[:].decode("ascii")


def identifier(asn1_object: CData) -> str:
    """An object identifier by its long name, or in numbers where it has none."""
    buffer = ffi.new("char[]", 256)
    lib.OBJ_obj2txt(buffer, len(buffer), asn1_object, 0)
    return text(buffer)


def octets(string: CData) -> bytes:
    """The bytes of an ASN1_STRING."""
    return bytes(ffi.buffer(lib.ASN1_STRING_get0_data(string), lib.ASN1_STRING_length(string)))


def words(string: CData) -> str:
    """An ASN1_STRING as str."""
    out = ffi.new("unsigned char **")
    length = lib.ASN1_STRING_to_UTF8(out, string)
    if length < 0:
        raise take_fault("a certificate's name cannot be read")
    try:
        return bytes(ffi.buffer(out[0], length)).decode("utf-8", "replace")
    finally:
        lib.OPENSSL_free(out[0])


def name(x509_name: CData) -> tuple[tuple[tuple[str, str], ...], ...]:
    """An X509_NAME: a tuple of relative names, each a tuple of (attribute, value)."""
    relative: list[list[tuple[str, str]]] = []
    last = None
    for index in range(lib.X509_NAME_entry_count(x509_name)):
        entry = lib.X509_NAME_get_entry(x509_name, index)
        number = lib.X509_NAME_ENTRY_set(entry)
        if number != last:
            relative.append([])
            last = number
        attribute = identifier(lib.X509_NAME_ENTRY_get_object(entry))
        relative[-1].append((attribute, words(lib.X509_NAME_ENTRY_get_data(entry))))
    return tuple(tuple(one) for one in relative)


def stack(x509: CData, nid: int, kind: str) -> CData | None:
    """An extension that is a list of `kind`, or None; it frees itself."""
    extension = lib.X509_get_ext_d2i(x509, nid, ffi.NULL, ffi.NULL)
    if extension == ffi.NULL:
        lib.ERR_clear_error()
        return None
    free = {
        "GENERAL_NAME": lib.GENERAL_NAMES_free,
        "ACCESS_DESCRIPTION": lib.AUTHORITY_INFO_ACCESS_free,
        "DIST_POINT": lib.CRL_DIST_POINTS_free,
    }[kind]
    return ffi.gc(ffi.cast(f"struct stack_st_{kind} *", extension), free)


def general_names(names: CData) -> Iterator[tuple[int, CData]]:
    """The (type, value) of each GENERAL_NAME."""
    kind = ffi.new("int *")
    for index in range(lib.sk_GENERAL_NAME_num(names)):
        value = lib.GENERAL_NAME_get0_value(lib.sk_GENERAL_NAME_value(names, index), kind)
        yield kind[0], value


def address(packed: bytes) -> str:
    """An IP address as ssl prints it: IPv6 in full, with capitals, without leading zeros."""
    if len(packed) == 4:
        return str(ipaddress.IPv4Address(packed))
    if len(packed) == 16:
        return ":".join(f"{int.from_bytes(packed[i : i + 2], 'big'):X}" for i in range(0, 16, 2))
    return "<invalid>"


def alternative_names(x509: CData) -> Iterator[tuple[str, Any]]:
    """The subject's alternative names: RFC 5280 section 4.2.1.6."""
    names = stack(x509, lib.NID_subject_alt_name, "GENERAL_NAME")
    if names is None:
        return
    plain = {lib.GEN_EMAIL: "email", lib.GEN_DNS: "DNS", lib.GEN_URI: "URI"}
    unsupported = {
        lib.GEN_OTHERNAME: "othername",
        lib.GEN_X400: "X400Name",
        lib.GEN_EDIPARTY: "EdiPartyName",
    }
    for kind, value in general_names(names):
        if kind in plain:
            yield plain[kind], octets(ffi.cast("ASN1_STRING *", value)).decode("utf-8", "replace")
        elif kind == lib.GEN_DIRNAME:
            yield "DirName", name(ffi.cast("X509_NAME *", value))
        elif kind == lib.GEN_IPADD:
            yield "IP Address", address(octets(ffi.cast("ASN1_STRING *", value)))
        elif kind == lib.GEN_RID:
            yield "Registered ID", identifier(ffi.cast("ASN1_OBJECT *", value))
        else:
            yield unsupported.get(kind, "unknown"), "<unsupported>"


def uris(names: Iterator[tuple[int, CData]]) -> Iterator[str]:
    """Those names that are URIs."""
    for kind, value in names:
        if kind == lib.GEN_URI:
            yield octets(ffi.cast("ASN1_STRING *", value)).decode("utf-8", "replace")


def access(x509: CData, method: int) -> Iterator[str]:
    """Where to ask about the certificate by `method`: RFC 5280 section 4.2.2.1."""
    descriptions = stack(x509, lib.NID_info_access, "ACCESS_DESCRIPTION")
    if descriptions is None:
        return
    kind = ffi.new("int *")
    for index in range(lib.sk_ACCESS_DESCRIPTION_num(descriptions)):
        description = lib.sk_ACCESS_DESCRIPTION_value(descriptions, index)
        if lib.OBJ_obj2nid(description.method) == method:
            value = lib.GENERAL_NAME_get0_value(description.location, kind)
            yield from uris(iter([(kind[0], value)]))


def distribution_points(x509: CData) -> Iterator[str]:
    """Where its revocation lists are: RFC 5280 section 4.2.1.13."""
    points = stack(x509, lib.NID_crl_distribution_points, "DIST_POINT")
    if points is None:
        return
    for index in range(lib.sk_DIST_POINT_num(points)):
        point = lib.sk_DIST_POINT_value(points, index).distpoint
        if point != ffi.NULL and point.type == 0:
            yield from uris(general_names(point.name.fullname))
