/* UDP sockets: one datagram a call, by the batch, and by the segment.
 */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define SEGMENTS_MAX 64U
#define GSO_BYTES_MAX 65000U

int udp_socket(const char *address, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int size = BUFFER_SIZE, whole = IP_PMTUDISC_DO;

    inet_pton(AF_INET, address, &to.sin_addr);
    if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        die("bind");
    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &whole, sizeof(whole)); /* as dtlsffi has it: nothing to be numbered */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    return fd;
}

int udp_port(int fd)
{
    struct sockaddr_in name;
    socklen_t length = sizeof(name);

    if (getsockname(fd, (struct sockaddr *)&name, &length) < 0)
        die("getsockname");
    return ntohs(name.sin_port);
}

static SSL *shake_hands(SSL_CTX *context, int fd, struct sockaddr_in *peer, bool server)
{
    SSL *ssl = SSL_new(context);
    BIO *bio = BIO_new_dgram(fd, BIO_NOCLOSE);

    if (connect(fd, (struct sockaddr *)peer, sizeof(*peer)) < 0)
        die("connect");
    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, peer);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_mtu(ssl, MTU);
    if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
        die("handshake");
    return ssl;
}

/* A server for the one client whose datagram comes first. */
SSL *udp_accept(SSL_CTX *context, int fd)
{
    struct sockaddr_in peer;
    socklen_t length = sizeof(peer);
    char byte;

    if (recvfrom(fd, &byte, 1, MSG_PEEK, (struct sockaddr *)&peer, &length) < 0)
        die("recvfrom");
    return shake_hands(context, fd, &peer, true);
}

SSL *udp_connect(SSL_CTX *context, int fd, int port)
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return shake_hands(context, fd, &peer, false);
}

static void send_all(int fd, struct mmsghdr *messages, unsigned int count)
{
    while (count > 0) {
        int sent = sendmmsg(fd, messages, count, 0);

        if (sent < 0) {
            if (errno == EINTR || errno == EAGAIN || errno == ENOBUFS || errno == ECONNREFUSED)
                continue;
            die("sendmmsg");
        }
        messages += sent;
        count -= (unsigned int)sent;
    }
}

void udp_send_mmsg(int fd, const outbox *out)
{
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    uint8_t *data = out->data;
    unsigned int n = 0;

    for (uint32_t i = 0; i < out->count; i++) {
        pieces[n] = (struct iovec){.iov_base = data, .iov_len = out->length[i]};
        messages[n] = (struct mmsghdr){.msg_hdr = {.msg_iov = &pieces[n], .msg_iovlen = 1}};
        data += out->length[i];
        if (++n == BATCH || i + 1 == out->count) {
            send_all(fd, messages, n);
            n = 0;
        }
    }
}

/* All datagrams are of one length. */
void udp_send_gso(int fd, const outbox *out)
{
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    union {
        struct cmsghdr header;
        uint8_t room[CMSG_SPACE(sizeof(uint16_t))];
    } control = {.header = {.cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof(uint16_t))}};
    uint16_t segment = (uint16_t)out->length[0];
    uint32_t each = GSO_BYTES_MAX / segment < SEGMENTS_MAX ? GSO_BYTES_MAX / segment : SEGMENTS_MAX;
    unsigned int n = 0;

    memcpy(CMSG_DATA(&control.header), &segment, sizeof(segment));
    for (uint32_t i = 0; i < out->count; i += each) {
        uint32_t here = out->count - i < each ? out->count - i : each;

        pieces[n] = (struct iovec){.iov_base = out->data + (size_t)i * segment, .iov_len = (size_t)here * segment};
        messages[n] = (struct mmsghdr){.msg_hdr = {.msg_iov = &pieces[n],
                                                   .msg_iovlen = 1,
                                                   .msg_control = &control,
                                                   .msg_controllen = sizeof(control)}};
        if (++n == BATCH || i + each >= out->count) {
            send_all(fd, messages, n);
            n = 0;
        }
    }
}

void intake_make(intake *in, int count, size_t room_each)
{
    memset(in, 0, sizeof(*in));
    in->count = count;
    in->room_each = room_each;
    in->room = malloc((size_t)count * room_each);
    if (in->room == NULL)
        die("intake");
    for (int i = 0; i < count; i++) {
        in->pieces[i] = (struct iovec){.iov_base = in->room + (size_t)i * room_each, .iov_len = room_each};
        in->messages[i].msg_hdr.msg_iov = &in->pieces[i];
        in->messages[i].msg_hdr.msg_iovlen = 1;
    }
}

/* How many messages have come; -1 where none has. Names are the caller's. */
int intake_take(intake *in, int fd, int flags)
{
    int count;

    for (int i = 0; i < in->count; i++) {
        in->messages[i].msg_hdr.msg_control = in->controls[i];
        in->messages[i].msg_hdr.msg_controllen = sizeof(in->controls[i]);
    }
    do {
        count = recvmmsg(fd, in->messages, (unsigned int)in->count, flags, NULL);
    } while (count < 0 && (errno == EINTR || errno == ECONNREFUSED));
    return count;
}

/* How long each datagram of a message is: the last may be shorter. */
size_t intake_segment(intake *in, int index)
{
    struct msghdr *message = &in->messages[index].msg_hdr;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int size;

            memcpy(&size, CMSG_DATA(c), sizeof(size));
            return (size_t)size;
        }
    }
    return in->messages[index].msg_len;
}
