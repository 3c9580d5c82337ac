/* How large a datagram may get.
 *
 * `mtu` is the ceiling of a UDP payload: set by the user, or what the kernel knows of the path (a socket of its
 * peer's alone), or 1200 bytes. `flight_mtu` is the same for handshake datagrams only: it falls when two flights in
 * a row got lost, since a path that swallows large datagrams looks just like that (timer.c). `data_mtu` is the
 * plaintext that fits.
 */
#include "core.h"

#include <sys/socket.h>

/* A socket of its peer's alone, of which the kernel can tell the path; or -1. */
static int own_socket(const dtlsffi_conn *conn)
{
    if (conn->udp != NULL)
        return conn->udp->connected ? conn->udp->fd : -1;
    return conn->fd;
}

size_t dtlsffi_mtu_overhead(const dtlsffi_conn *conn)
{
    return own_socket(conn) >= 0 && !conn->ipv6 ? 28 : 48; /* IPv4 or IPv6 header, and UDP's */
}

static size_t ask_kernel(const dtlsffi_conn *conn)
{
    int path = 0;
    socklen_t size = sizeof(path);
    int level = conn->ipv6 ? IPPROTO_IPV6 : IPPROTO_IP;
    int option = conn->ipv6 ? IPV6_MTU : IP_MTU;
    size_t overhead = dtlsffi_mtu_overhead(conn);

    if (!DTLSFFI_HAS_PATH_MTU || own_socket(conn) < 0)
        return 0;
    if (getsockopt(own_socket(conn), level, option, &path, &size) != 0 || path < (int)(DTLSFFI_MTU_MIN + overhead))
        return 0;
    return (size_t)path - overhead;
}

size_t dtlsffi_conn_mtu(dtlsffi_conn *conn)
{
    size_t path;

    if (conn->mtu != 0)
        return conn->mtu;
    path = ask_kernel(conn);
    if (path > DTLSFFI_MTU_MAX)
        return DTLSFFI_MTU_MAX;
    return path != 0 ? path : DTLSFFI_MTU_DEFAULT;
}

size_t dtlsffi_conn_flight_mtu(dtlsffi_conn *conn)
{
    if (conn->flight_mtu == 0) {
        size_t mtu = dtlsffi_conn_mtu(conn);

        conn->flight_mtu = mtu < DTLSFFI_FLIGHT_MAX ? mtu : DTLSFFI_FLIGHT_MAX;
    }
    return conn->flight_mtu;
}

size_t dtlsffi_mtu_fall_back(dtlsffi_conn *conn)
{
    if (dtlsffi_conn_flight_mtu(conn) > DTLSFFI_MTU_FALLBACK) {
        conn->flight_mtu = DTLSFFI_MTU_FALLBACK;
        conn->events |= DTLSFFI_EVENT_MTU;
    }
    return conn->flight_mtu;
}

/* What the peer has asked for, for want of memory: RFC 6066 section 4. OpenSSL ends the connection over anything
 * longer. */
static size_t fragment_max(const SSL *ssl)
{
    uint8_t code = SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl));

    return code >= TLSEXT_max_fragment_length_512 && code <= TLSEXT_max_fragment_length_4096 ? (size_t)256 << code
                                                                                            : DTLSFFI_RECORD_MAX;
}

/* Makes OpenSSL and `data_mtu` follow the present ceiling. */
void dtlsffi_mtu_refresh(dtlsffi_conn *conn)
{
    if (conn->established) {
        SSL_set_mtu(conn->ssl, (long)dtlsffi_conn_mtu(conn));
        conn->data_mtu = DTLS_get_data_mtu(conn->ssl);
        if (conn->data_mtu > fragment_max(conn->ssl))
            conn->data_mtu = fragment_max(conn->ssl);
    } else {
        conn->flight_mtu = 0;
        SSL_set_mtu(conn->ssl, (long)dtlsffi_conn_flight_mtu(conn));
    }
}

/* Whether its ceiling is what the kernel knows of its path. */
static bool goes_by_kernel(const dtlsffi_conn *conn)
{
    return conn->mtu == 0 && own_socket(conn) >= 0;
}

/* The kernel has said that the path carries less than was sent. */
void dtlsffi_mtu_follow(dtlsffi_conn *conn)
{
    if (goes_by_kernel(conn))
        dtlsffi_mtu_refresh(conn);
}

/* The same for a connection that is not entered. */
void dtlsffi_conn_follow_path(dtlsffi_conn *conn)
{
    if (dtlsffi_conn_enter(conn) != 0)
        return;
    dtlsffi_mtu_follow(conn);
    dtlsffi_conn_leave(conn);
}

/* Of a path that the kernel has come to know better, perhaps, and need not have told about: it says what was too large,
 * not that a path has become wider, or that there is another. */
size_t dtlsffi_conn_data_mtu(dtlsffi_conn *conn)
{
    if (conn->established && goes_by_kernel(conn))
        dtlsffi_conn_follow_path(conn);
    return conn->data_mtu;
}

/* `mtu` bytes of UDP payload, or 0 to go by what the kernel knows. Returns 0, or the reason why not. */
int dtlsffi_conn_set_mtu(dtlsffi_conn *conn, size_t mtu)
{
    int state = dtlsffi_conn_enter(conn);

    if (state != 0)
        return state;
    conn->mtu = mtu;
    dtlsffi_mtu_refresh(conn);
    dtlsffi_conn_leave(conn);
    return 0;
}
