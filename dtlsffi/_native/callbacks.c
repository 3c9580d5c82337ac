/* Where OpenSSL asks and Python answers: each function here finds the connection, and calls its trampoline.
 *
 * All of them are for handshakes. A connection that was closed within its own callback says no to OpenSSL. While Python
 * answers, the thread has the GIL, whatever it had let go of before: dtlsffi_gil_home().
 */
#include "core.h"

#include <string.h>

static dtlsffi_conn *conn_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

/* Every setter here says so: a connection has no handle unless its context asks something, or it is pinned. */
static void note_question(SSL_CTX *ctx, bool on)
{
    dtlsffi_ctx_get_data(ctx)->asks |= on;
}

/* ---- what is only told ---- */

static void pass_key_on(const SSL *ssl, const char *line)
{
    dtlsffi_conn *conn = conn_of(ssl);

    if (conn != NULL && conn->handle != NULL) {
        bool away = dtlsffi_gil_home();

        dtlsffi_on_keylog(conn->handle, line);
        dtlsffi_gil_away(away);
    }
}

void dtlsffi_ctx_log_keys(SSL_CTX *ctx, int on)
{
    note_question(ctx, on != 0);
    SSL_CTX_set_keylog_callback(ctx, on ? pass_key_on : NULL);
}

/* Types and lengths only: of what is in a message no more than its type, and of an alert its two bytes. */
static void trace(int sent, int version, int content, const void *data, size_t length, SSL *ssl, void *unused)
{
    const uint8_t *bytes = data;
    dtlsffi_conn *conn = conn_of(ssl);
    int what = -1;
    bool away;

    (void)unused;
    if (conn->handle == NULL)
        return;
    if (content == SSL3_RT_HEADER && length >= DTLSFFI_RECORD_HEADER) {
        what = bytes[0];
        version = bytes[1] << 8 | bytes[2];
        length = (size_t)bytes[11] << 8 | bytes[12];
    } else if (content == SSL3_RT_HANDSHAKE && length > 0) {
        what = bytes[0];
    } else if (content == SSL3_RT_ALERT && length == 2) {
        what = bytes[1];
    } else if (content != SSL3_RT_CHANGE_CIPHER_SPEC) {
        return;
    }
    away = dtlsffi_gil_home();
    dtlsffi_on_trace(conn->handle, sent, version, content, what, length);
    dtlsffi_gil_away(away);
}

void dtlsffi_ctx_set_trace(SSL_CTX *ctx, int on)
{
    note_question(ctx, on != 0);
    SSL_CTX_set_msg_callback(ctx, on ? trace : NULL);
}

/* ---- pre-shared keys: RFC 4279 ---- */

static unsigned int ask_psk_client(SSL *ssl, const char *hint, char *identity, unsigned int identity_room,
                                   unsigned char *key, unsigned int room)
{
    dtlsffi_conn *conn = conn_of(ssl);
    bool away = dtlsffi_gil_home();
    unsigned int length = dtlsffi_on_psk_client(conn->handle, hint, identity, identity_room, key, room);

    dtlsffi_gil_away(away);
    return conn->abandoned ? 0 : length;
}

static unsigned int ask_psk_server(SSL *ssl, const char *identity, unsigned char *key, unsigned int room)
{
    dtlsffi_conn *conn = conn_of(ssl);
    bool away = dtlsffi_gil_home();
    unsigned int length = dtlsffi_on_psk_server(conn->handle, identity, key, room);

    dtlsffi_gil_away(away);
    return conn->abandoned ? 0 : length;
}

void dtlsffi_ctx_ask_psk(SSL_CTX *ctx, int client, int server)
{
    note_question(ctx, client || server);
    SSL_CTX_set_psk_client_callback(ctx, client ? ask_psk_client : NULL);
    SSL_CTX_set_psk_server_callback(ctx, server ? ask_psk_server : NULL);
}

/* ---- the server's name: RFC 6066 section 3 ---- */

/* The one host name of a server_name extension, or NULL: list length(2), type(1), length(2), name. OpenSSL will look at
 * the extension more closely than this. */
static const uint8_t *host_name_untrusted(SSL *ssl, size_t *length)
{
    const uint8_t *data;
    size_t size;

    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &size) != 1 || size < 5)
        return NULL;
    *length = (size_t)data[3] << 8 | data[4];
    return data[2] == TLSEXT_NAMETYPE_host_name && *length <= size - 5 ? data + 5 : NULL;
}

/* Asked before OpenSSL looks for a session to resume, not after it (SSL_CTX_set_tlsext_servername_callback): so a
 * session is resumed by the rules of the context that is chosen here. */
static int ask_by_name(SSL *ssl, int *alert, void *unused)
{
    dtlsffi_conn *conn = conn_of(ssl);
    size_t length = 0;
    const uint8_t *name = host_name_untrusted(ssl, &length);
    bool away = dtlsffi_gil_home();
    int answer = dtlsffi_on_server_name(conn->handle, name, length);

    dtlsffi_gil_away(away);
    (void)unused;
    if (conn->abandoned)
        answer = SSL_AD_HANDSHAKE_FAILURE;
    if (answer < 0)
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = answer;
    return SSL_CLIENT_HELLO_ERROR;
}

/* Tells the client that its name was heard. */
static int acknowledge_name(SSL *ssl, int *alert, void *unused)
{
    (void)alert, (void)unused;
    return SSL_is_server(ssl) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

void dtlsffi_ctx_ask_by_name(SSL_CTX *ctx, int on)
{
    int (*acknowledge)(SSL *, int *, void *) = on ? acknowledge_name : NULL;

    note_question(ctx, on != 0);
    SSL_CTX_set_client_hello_cb(ctx, on ? ask_by_name : NULL, NULL);
    SSL_CTX_set_tlsext_servername_callback(ctx, acknowledge);
}

/* ---- certificates ---- */

static int ask_certificate(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    dtlsffi_conn *conn = conn_of(ssl);
    bool away = dtlsffi_gil_home();
    int answer = dtlsffi_on_certificate(conn->handle, ok, store);

    dtlsffi_gil_away(away);
    ok = answer == 1 && !conn->abandoned;
    if (answer < 0)
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED); /* internal_error, to the peer */
    else if (!ok && X509_STORE_CTX_get_error(store) == X509_V_OK)
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
    conn->distrusted = !ok;
    return ok;
}

void dtlsffi_ctx_set_verify(SSL_CTX *ctx, int mode, int ask)
{
    note_question(ctx, ask != 0);
    SSL_CTX_set_verify(ctx, mode, ask ? ask_certificate : NULL);
}

/* Asks about this connection's peer whatever its context says. */
void dtlsffi_conn_set_pinned(dtlsffi_conn *conn)
{
    conn->pinned = true;
    SSL_set_verify(conn->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, ask_certificate);
}

static int ask_status(SSL *ssl, void *unused)
{
    dtlsffi_conn *conn = conn_of(ssl);
    bool away = dtlsffi_gil_home();
    int answer = dtlsffi_on_status(conn->handle);

    dtlsffi_gil_away(away);
    (void)unused;
    if (conn->abandoned)
        return SSL_is_server(ssl) ? SSL_TLSEXT_ERR_ALERT_FATAL : 0;
    return answer;
}

/* OCSP stapling: RFC 6066 section 8 */
void dtlsffi_ctx_ask_status(SSL_CTX *ctx, int on)
{
    int (*callback)(SSL *, void *) = on ? ask_status : NULL;

    note_question(ctx, on != 0);
    SSL_CTX_set_tlsext_status_cb(ctx, callback);
}

/* ---- sessions ---- */

static int give_session(SSL *ssl, SSL_SESSION *session)
{
    bool away = dtlsffi_gil_home();

    dtlsffi_on_session_new(conn_of(ssl)->handle, session);
    dtlsffi_gil_away(away);
    return 0; /* the reference stays OpenSSL's */
}

static SSL_SESSION *find_session(SSL *ssl, const unsigned char *id, int length, int *copy)
{
    *copy = 0; /* Python has made a reference for OpenSSL */
    bool away = dtlsffi_gil_home();
    SSL_SESSION *session = dtlsffi_on_session_get(conn_of(ssl)->handle, id, length);

    dtlsffi_gil_away(away);
    return session;
}

/* OpenSSL holds the lock of the SSL_CTX meanwhile, so Python hears of it later. */
static void forget_session(SSL_CTX *ctx, SSL_SESSION *session)
{
    unsigned int length;
    const unsigned char *id = SSL_SESSION_get_id(session, &length);

    if (length > 0)
        dtlsffi_ctx_note_removed(ctx, id, length);
}

void dtlsffi_ctx_ask_sessions(SSL_CTX *ctx, int give, int find, int forget)
{
    note_question(ctx, give || find);
    dtlsffi_ctx_get_data(ctx)->watched = forget != 0;
    SSL_CTX_sess_set_new_cb(ctx, give ? give_session : NULL);
    SSL_CTX_sess_set_get_cb(ctx, find ? find_session : NULL);
    SSL_CTX_sess_set_remove_cb(ctx, forget ? forget_session : NULL);
}

/* ---- another context ---- */

/* Goes on with `ctx`, which a server's name has chosen: not with its certificate alone (SSL_set_SSL_CTX), but with what
 * it verifies, allows and traces, too. */
int dtlsffi_conn_adopt(dtlsffi_conn *conn, SSL_CTX *ctx, int has_psk, int traces)
{
    SSL *ssl = conn->ssl;

    if (SSL_set_SSL_CTX(ssl, ctx) == NULL)
        return 0;
    X509_VERIFY_PARAM_clear_flags(SSL_get0_param(ssl), ~0UL); /* the next call only adds to them */
    if (SSL_set1_param(ssl, SSL_CTX_get0_param(ctx)) != 1 ||
        SSL_set_min_proto_version(ssl, (int)SSL_CTX_get_min_proto_version(ctx)) != 1 ||
        SSL_set_max_proto_version(ssl, dtlsffi_conn_newest(conn, (int)SSL_CTX_get_max_proto_version(ctx))) != 1)
        return 0;
    SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), SSL_CTX_get_verify_callback(ctx));
    SSL_clear_options(ssl, SSL_get_options(ssl) & ~SSL_CTX_get_options(ctx));
    SSL_set_options(ssl, SSL_CTX_get_options(ctx));
    SSL_set_psk_server_callback(ssl, has_psk ? ask_psk_server : NULL);
    SSL_set_msg_callback(ssl, traces ? trace : NULL);
    return 1;
}

/* ---- keys ---- */

static int refuse(char *buffer, int size, int writing, void *handle)
{
    (void)buffer, (void)size, (void)writing, (void)handle;
    return -1;
}

/* pem_password_cb(3) for what has no password: OpenSSL's own would ask on the terminal. */
pem_password_cb *const dtlsffi_no_password = refuse;
