/* The load generator's socket, and the handshakes of its peers.
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST 0x7F010000U
#define TIMER 250000U /* the first retransmission, in microseconds */

typedef union {
    struct cmsghdr header;
    uint8_t room[CMSG_SPACE(sizeof(struct in_pktinfo))];
} control;

generator g;

static struct in_addr address_of(int index)
{
    return (struct in_addr){htonl(FIRST + ((uint32_t)index / 250) * 256 + (uint32_t)index % 250 + 1)};
}

static int index_of(struct in_addr address)
{
    uint32_t offset = ntohl(address.s_addr) - FIRST;

    return (int)((offset >> 8) * 250 + (offset & 255) - 1);
}

void generator_open(const options *o)
{
    int on = 1;
    bool psk = strcmp(o->mode, "psk") == 0;

    g.fd = udp_socket("0.0.0.0", 0);
    g.server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)o->port)};
    inet_pton(AF_INET, o->address, &g.server.sin_addr);
    if (setsockopt(g.fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) < 0)
        die("IP_PKTINFO");
    g.context = context_make(o, false, psk);
    if (psk)
        SSL_CTX_set_options(g.context, SSL_OP_NO_TICKET);
    outbox_make(&g.out, 1 << 20, 4 * BATCH);
    intake_make(&g.in, BATCH, 17000);
}

static void send_all(struct mmsghdr *first, unsigned int count)
{
    unsigned int done = 0;

    while (done < count) {
        int sent = sendmmsg(g.fd, first + done, count - done, 0);

        if (sent < 0 && errno != EINTR && errno != EAGAIN && errno != ENOBUFS)
            die("sendmmsg");
        done += sent > 0 ? (unsigned int)sent : 0;
    }
}

static struct mmsghdr messages[4 * BATCH];
static struct iovec pieces[4 * BATCH];
static control controls[4 * BATCH];

static void address_message(int i, const uint8_t *data, size_t length, int peer)
{
    struct in_pktinfo info = {.ipi_spec_dst = address_of(peer)};
    struct msghdr *message = &messages[i].msg_hdr;

    pieces[i].iov_base = (void *)(uintptr_t)data;
    pieces[i].iov_len = length;
    controls[i].header.cmsg_level = IPPROTO_IP;
    controls[i].header.cmsg_type = IP_PKTINFO;
    controls[i].header.cmsg_len = CMSG_LEN(sizeof(info));
    memcpy(CMSG_DATA(&controls[i].header), &info, sizeof(info));
    message->msg_name = &g.server;
    message->msg_namelen = sizeof(g.server);
    message->msg_iov = &pieces[i];
    message->msg_iovlen = 1;
    message->msg_control = &controls[i];
    message->msg_controllen = sizeof(controls[i]);
}

/* At most BATCH datagrams of one length, each from the address of its peer. */
void generator_send(const uint8_t *const *data, size_t length, const int *index, int count)
{
    for (int i = 0; i < count; i++)
        address_message(i, data[i], length, index[i]);
    send_all(messages, (unsigned int)count);
}

static void flush_out(void)
{
    const uint8_t *data = g.out.data;

    for (uint32_t i = 0; i < g.out.count; i++) {
        address_message((int)i, data, g.out.length[i], g.destination[i]);
        data += g.out.length[i];
    }
    send_all(messages, g.out.count);
    outbox_clear(&g.out);
}

int generator_take(void)
{
    return intake_take(&g.in, g.fd, MSG_DONTWAIT);
}

/* Whose a message is, -1 where it is nobody's. */
int generator_peer(int message)
{
    struct msghdr *header = &g.in.messages[message].msg_hdr;
    struct in_pktinfo info = {0};
    int index;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
            memcpy(&info, CMSG_DATA(c), sizeof(info));
    }
    index = index_of(info.ipi_addr);
    return index >= 0 && index < PEERS_MAX && g.peers[index].ssl != NULL ? index : -1;
}

const uint8_t *generator_data(int message, size_t *length)
{
    *length = g.in.messages[message].msg_len;
    return g.in.pieces[message].iov_base;
}

int generator_read(int peer, const uint8_t *data, size_t length, uint8_t *room)
{
    g.peers[peer].wire.in = data;
    g.peers[peer].wire.in_length = length;
    return SSL_read(g.peers[peer].ssl, room, DATAGRAM_MAX);
}

/* ---- handshakes ---- */

static unsigned int next_timer(SSL *ssl, unsigned int before)
{
    (void)ssl;
    return before == 0 ? TIMER : before * 2 > 4000000 ? 4000000 : before * 2;
}

static void step(int index)
{
    uint32_t before = g.out.count;
    SSL *ssl = g.peers[index].ssl;
    int ret = SSL_do_handshake(ssl);

    for (uint32_t i = before; i < g.out.count; i++)
        g.destination[i] = index;
    if (ret <= 0 && SSL_get_error(ssl, ret) != SSL_ERROR_WANT_READ)
        die("a peer's handshake failed");
    if (g.out.count > 3 * BATCH)
        flush_out();
}

static void begin(int index, bool resume)
{
    client *c = &g.peers[index];

    c->wire = (wire){.out = &g.out};
    c->ssl = wire_ssl(g.context, &c->wire, false);
    DTLS_set_timer_cb(c->ssl, next_timer);
    SSL_set_tlsext_host_name(c->ssl, HOST);
    if (resume && g.session != NULL)
        SSL_set_session(c->ssl, g.session);
    step(index);
}

static void finish(int index)
{
    if (g.session == NULL)
        g.session = SSL_get1_session(g.peers[index].ssl);
}

static int step_those_that_came(void)
{
    int finished = 0;
    int count = generator_take();

    for (int i = 0; i < count; i++) {
        int index = generator_peer(i);

        if (index < 0 || SSL_is_init_finished(g.peers[index].ssl))
            continue;
        g.peers[index].wire.in = generator_data(i, &g.peers[index].wire.in_length);
        step(index);
        if (SSL_is_init_finished(g.peers[index].ssl)) {
            finish(index);
            finished++;
        }
    }
    flush_out();
    return finished;
}

/* Connects the peers from `from` to `to`, `window` of them at a time; returns how many flights were sent again. */
int clients_connect(int from, int to, bool resume, int window)
{
    struct pollfd waiting = {.fd = g.fd, .events = POLLIN};
    int next = from;
    int done = from;
    int again = 0;
    double last_look = now();
    double last_progress = now();

    while (done < to) {
        int finished;

        for (; next < to && next - done < window && (next == from || g.session != NULL || !resume); next++)
            begin(next, resume);
        flush_out();
        poll(&waiting, 1, 20);
        finished = step_those_that_came();
        done += finished;
        if (finished > 0)
            last_progress = now();
        if (now() > last_progress + 30) {
            fprintf(stderr, "no handshake has finished for 30 seconds: %d of %d\n", done, to);
            exit(1);
        }
        if (now() < last_look + 0.1)
            continue;
        last_look = now();
        for (int i = from; i < next; i++) {
            uint32_t before = g.out.count;

            if (SSL_is_init_finished(g.peers[i].ssl))
                continue;
            again += DTLSv1_handle_timeout(g.peers[i].ssl) > 0;
            for (uint32_t j = before; j < g.out.count; j++)
                g.destination[j] = i;
            flush_out();
        }
    }
    if (to > g.count)
        g.count = to;
    return again;
}

void clients_close(int from, int to)
{
    for (int i = from; i < to; i++) {
        uint32_t before = g.out.count;

        (void)SSL_shutdown(g.peers[i].ssl);
        for (uint32_t j = before; j < g.out.count; j++)
            g.destination[j] = i;
        if (g.out.count >= BATCH)
            flush_out();
        SSL_free(g.peers[i].ssl);
        g.peers[i].ssl = NULL;
    }
    flush_out();
    if (to == g.count)
        g.count = from;
    ERR_clear_error();
}
