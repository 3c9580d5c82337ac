/* A BIO in memory that keeps datagrams apart: one slot for what comes in, an outbox for what goes out. An outbox may be
 * shared by many.
 */
#include "common.h"

#include <stdlib.h>
#include <string.h>

void outbox_make(outbox *out, size_t size, uint32_t room)
{
    *out = (outbox){.data = malloc(size), .size = size, .length = calloc(room, sizeof(uint32_t)), .room = room};
    if (out->data == NULL || out->length == NULL)
        die("outbox");
}

void outbox_clear(outbox *out)
{
    out->used = 0;
    out->count = 0;
}

static int wire_read(BIO *bio, char *buffer, int size)
{
    wire *w = BIO_get_data(bio);
    size_t length = w->in_length < (size_t)size ? w->in_length : (size_t)size;

    BIO_clear_retry_flags(bio);
    if (length == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(buffer, w->in, length);
    w->in_length = 0;
    return (int)length;
}

static int wire_write(BIO *bio, const char *data, int length)
{
    outbox *out = ((wire *)BIO_get_data(bio))->out;

    BIO_clear_retry_flags(bio);
    if (out->used + (size_t)length > out->size || out->count == out->room)
        return length; /* lost, as on any wire */
    memcpy(out->data + out->used, data, (size_t)length);
    out->used += (size_t)length;
    out->length[out->count++] = (uint32_t)length;
    return length;
}

static long wire_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP: return 1;
    case BIO_CTRL_DGRAM_QUERY_MTU:
    case BIO_CTRL_DGRAM_GET_FALLBACK_MTU: return MTU;
    default: return 0;
    }
}

BIO *wire_bio(wire *w)
{
    static BIO_METHOD *method;
    BIO *bio;

    if (method == NULL) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire");
        BIO_meth_set_read(method, wire_read);
        BIO_meth_set_write(method, wire_write);
        BIO_meth_set_ctrl(method, wire_ctrl);
    }
    bio = BIO_new(method);
    if (bio == NULL)
        die("BIO_new");
    BIO_set_data(bio, w);
    BIO_set_init(bio, 1);
    return bio;
}

SSL *wire_ssl(SSL_CTX *context, wire *w, bool server)
{
    SSL *ssl = SSL_new(context);
    BIO *bio = wire_bio(w);

    if (ssl == NULL)
        die("SSL_new");
    SSL_set_bio(ssl, bio, bio);
    SSL_set_mtu(ssl, MTU);
    if (server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    return ssl;
}

/* Every datagram of an outbox to the other side, each with a step of its handshake. */
void wire_carry(SSL *to, wire *w, outbox *from)
{
    size_t start = 0;

    for (uint32_t i = 0; i < from->count; i++) {
        w->in = from->data + start;
        w->in_length = from->length[i];
        start += from->length[i];
        (void)SSL_do_handshake(to);
    }
    outbox_clear(from);
}

void wire_shake_hands(SSL *client, wire *client_wire, SSL *server, wire *server_wire)
{
    (void)SSL_do_handshake(client);
    for (int i = 0; i < 20 && !(SSL_is_init_finished(client) && SSL_is_init_finished(server)); i++) {
        wire_carry(server, server_wire, client_wire->out);
        wire_carry(client, client_wire, server_wire->out);
    }
    if (!SSL_is_init_finished(client) || !SSL_is_init_finished(server))
        die("handshake in memory");
}
