/* One UDP socket for any number of peers: datagrams in by the batch, each with its sender and the address it was
 * sent to, and out, each from the address that was asked (RFC 1122 section 4.1.3.5).
 *
 * Where the kernel joins datagrams of one sender into a large message (UDP_GRO), and cuts one into datagrams
 * (UDP_SEGMENT, see outgoing.c), a datagram costs a tenth. What it will not do is done without: nothing else
 * changes.
 */
#include "core.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void set_v4(dtlsffi_address *address, const void *ip)
{
    memcpy(address->ip, ip, 4);
    address->family = 4;
}

/* An IPv4 peer of a dual-stack socket is the same peer as over IPv4. */
static void set_v6(dtlsffi_address *address, const struct in6_addr *ip, uint32_t scope)
{
    if (IN6_IS_ADDR_V4MAPPED(ip)) {
        set_v4(address, (const uint8_t *)ip + 12);
        return;
    }
    memcpy(address->ip, ip, 16);
    address->family = 6;
    address->scope = scope;
}

static bool understand(dtlsffi_address *address, const dtlsffi_sockaddr *from)
{
    memset(address, 0, sizeof(*address));
    switch (from->any.sa_family) {
    case AF_INET:
        set_v4(address, &from->v4.sin_addr);
        memcpy(address->port, &from->v4.sin_port, 2);
        return true;
    case AF_INET6:
        set_v6(address, &from->v6.sin6_addr, IN6_IS_ADDR_LINKLOCAL(&from->v6.sin6_addr) ? from->v6.sin6_scope_id : 0);
        memcpy(address->port, &from->v6.sin6_port, 2);
        return true;
    default:
        return false;
    }
}

/* Whether a part of the control data is this one, and whole: where its owner has asked for more, the kernel may have
 * cut it. */
static bool get_part(const struct cmsghdr *part, int level, int type, void *value, size_t length)
{
    if (part->cmsg_level != level || part->cmsg_type != type || part->cmsg_len < CMSG_LEN(length))
        return false;
    memcpy(value, CMSG_DATA(part), length);
    return true;
}

/* The address a message was sent to, and the size of the datagrams it was joined from, if it was. */
static void read_control(struct msghdr *message, dtlsffi_address *local, uint32_t *size)
{
    struct cmsghdr *part;
    struct in_pktinfo v4;
    struct in6_pktinfo v6;
    int joined;

    memset(local, 0, sizeof(*local));
    for (part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        if (get_part(part, IPPROTO_IP, IP_PKTINFO, &v4, sizeof(v4)))
            set_v4(local, &v4.ipi_spec_dst);
        else if (get_part(part, IPPROTO_IPV6, IPV6_PKTINFO, &v6, sizeof(v6)) && !IN6_IS_ADDR_MULTICAST(&v6.ipi6_addr))
            set_v6(local, &v6.ipi6_addr, v6.ipi6_ifindex); /* from a multicast address nothing can be sent */
        else if (DTLSFFI_HAS_GRO && get_part(part, IPPROTO_UDP, UDP_GRO, &joined, sizeof(joined)) && joined > 0)
            *size = (uint32_t)joined;
    }
}

#define FEW 4         /* messages to ask for at least: each may hold 64 datagrams */
#define ENOUGH 131072 /* bytes to ask for: more would not stay in the nearer caches */

static int without;

/* Names what is done without from now on, though the kernel may have it. */
void dtlsffi_udp_do_without(int what)
{
    without = what;
}

/* Where a socket is; of no family where that cannot be told. */
dtlsffi_sockaddr dtlsffi_udp_own_address(int fd)
{
    dtlsffi_sockaddr own = {0};
    socklen_t length = sizeof(own);

    if (getsockname(fd, &own.any, &length) != 0)
        own.any.sa_family = AF_UNSPEC;
    return own;
}

/* Whether that is one address, which all it sends leaves from anyway. */
static bool is_one_address(const dtlsffi_sockaddr *own)
{
    const struct in6_addr *v6 = &own->v6.sin6_addr;

    if (own->any.sa_family == AF_INET)
        return own->v4.sin_addr.s_addr != htonl(INADDR_ANY) && !IN_MULTICAST(ntohl(own->v4.sin_addr.s_addr));
    return own->any.sa_family == AF_INET6 && !IN6_IS_ADDR_UNSPECIFIED(v6) && !IN6_IS_ADDR_MULTICAST(v6)
           && !IN6_IS_ADDR_V4MAPPED(v6);
}

/* Whether it is the parent's, from before a fork: what a child does to it the parent would see. */
static bool is_parents(const dtlsffi_udp *udp)
{
    return udp->born != 0 && dtlsffi_is_parents(udp->born);
}

static bool has_peer(int fd)
{
    dtlsffi_sockaddr peer;
    socklen_t length = sizeof(peer);

    return getpeername(fd, &peer.any, &length) == 0;
}

/* How many messages, each a datagram or several that were joined, the kernel has thrown away for want of room in the
 * socket's buffer (SO_RCVBUF). */
uint64_t dtlsffi_udp_overflowed(const dtlsffi_udp *udp)
{
    uint32_t numbers[DTLSFFI_MEMINFO_DROPS + 1] = {0};
    socklen_t size = sizeof(numbers);

    if (!DTLSFFI_HAS_MEMINFO || udp->fd < 0 || getsockopt(udp->fd, SOL_SOCKET, SO_MEMINFO, numbers, &size) != 0)
        return udp->overflowed;
    return numbers[DTLSFFI_MEMINFO_DROPS];
}

static int discovery(int fd)
{
    int how = -1;
    socklen_t length = sizeof(how);

    return DTLSFFI_HAS_DF && getsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &how, &length) == 0 ? how : -1;
}

static bool discover(int fd, int how)
{
    return DTLSFFI_HAS_DF && setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof(how)) == 0;
}

/* Lets nobody fragment what the socket sends over IPv4, unless its owner has decided about that. Such a datagram
 * needs no identification (RFC 6864 section 4.1), and to find one costs the kernel more the more peers there are. A
 * socket with a peer has a counter of its own for it. One that is so already may be what a process of ours has left. */
static void keep_whole(dtlsffi_udp *udp)
{
    int how;

    udp->whole = udp->forbidden = 0;
    if (!DTLSFFI_HAS_DF || (without & DTLSFFI_WITHOUT_DF) != 0 || udp->connected || has_peer(udp->fd))
        return;
    how = discovery(udp->fd);
    udp->forbidden = how == IP_PMTUDISC_WANT && discover(udp->fd, IP_PMTUDISC_DO);
    udp->whole = udp->forbidden || how == IP_PMTUDISC_DO;
}

/* Has datagrams fragmented again that are too long for their path, once there has been one; unless somebody has decided
 * otherwise meanwhile. */
void dtlsffi_udp_may_fragment(dtlsffi_udp *udp)
{
    if (discovery(udp->fd) == IP_PMTUDISC_DO)
        (void)discover(udp->fd, IP_PMTUDISC_WANT);
    udp->whole = 0; /* not before: who sees it does not try again */
}

/* Makes the most of a socket: `joined` where it may join datagrams, which nobody else may read then. What the kernel
 * refuses is done without. */
void dtlsffi_udp_prepare(dtlsffi_udp *udp, int fd, int connected, int joined)
{
    dtlsffi_sockaddr own;
    int on = 1;

    if (is_parents(udp))
        return;
    own = dtlsffi_udp_own_address(fd);
    if (udp->born == 0) /* else it may have been found out that the kernel cuts none */
        udp->segments = DTLSFFI_HAS_GSO && (without & DTLSFFI_WITHOUT_GSO) == 0;
    udp->born = dtlsffi_fork_count;
    udp->fd = fd;
    udp->v6 = own.any.sa_family == AF_INET6;
    udp->connected = connected;
    udp->most = FEW;
    if (!connected && !is_one_address(&own)) {
        (void)setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
    }
    keep_whole(udp);
    if (joined && DTLSFFI_HAS_GRO && (without & DTLSFFI_WITHOUT_GRO) == 0)
        udp->joins = setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)) == 0;
}

/* Gives the socket back to somebody who wants each datagram by itself. Its number may be somebody else's soon. */
void dtlsffi_udp_release(dtlsffi_udp *udp)
{
    int off = 0;

    if (udp->joins && !is_parents(udp))
        (void)setsockopt(udp->fd, IPPROTO_UDP, UDP_GRO, &off, sizeof(off));
    if (udp->whole && udp->forbidden && !is_parents(udp))
        dtlsffi_udp_may_fragment(udp);
    udp->overflowed = dtlsffi_udp_overflowed(udp);
    udp->joins = 0;
    udp->fd = -1;
}

/* Four megabytes, of which as much becomes real memory as is ever filled. */
dtlsffi_batch *dtlsffi_batch_new(void)
{
    return calloc(1, sizeof(dtlsffi_batch));
}

void dtlsffi_batch_free(dtlsffi_batch *batch)
{
    free(batch);
}

static void make_room(dtlsffi_message *message, struct iovec *piece, dtlsffi_sockaddr *from, dtlsffi_control *space)
{
    memset(message, 0, sizeof(*message));
    piece->iov_len = DTLSFFI_MESSAGE_MAX;
    message->msg_hdr.msg_iov = piece;
    message->msg_hdr.msg_iovlen = 1;
    message->msg_hdr.msg_name = from;
    message->msg_hdr.msg_namelen = sizeof(*from);
    message->msg_hdr.msg_control = space;
    message->msg_hdr.msg_controllen = sizeof(*space);
}

static void take_message(dtlsffi_udp *udp, dtlsffi_batch *batch, uint32_t i, dtlsffi_message *message,
                         const dtlsffi_sockaddr *from)
{
    bool whole = (message->msg_hdr.msg_flags & MSG_TRUNC) == 0;
    uint32_t datagrams = 1;

    batch->length[i] = understand(&batch->senders[i], from) && whole ? message->msg_len : 0;
    batch->size[i] = batch->length[i];
    read_control(&message->msg_hdr, &batch->receivers[i], &batch->size[i]);
    if (batch->size[i] < batch->length[i]) {
        datagrams = (batch->length[i] + batch->size[i] - 1) / batch->size[i];
        batch->joined += datagrams;
    }
    udp->datagrams_received += datagrams;
    udp->datagrams_cut += !whole;
}

/* How many messages to ask for next: to ask for many costs something, too, where few come. Where as many have come
 * as were asked for, or each is many datagrams, it is as many as are enough, if they are as long as these. */
static void learn(dtlsffi_udp *udp, dtlsffi_batch *batch, int asked)
{
    uint32_t bytes = 1;

    batch->full = (int)batch->count == asked;
    for (uint32_t i = 0; i < batch->count; i++)
        bytes += batch->length[i];
    if (batch->full || batch->joined != 0)
        udp->most = (int)(ENOUGH * batch->count / bytes);
    if (udp->most > DTLSFFI_BATCH)
        udp->most = DTLSFFI_BATCH;
    if (batch->count < FEW || udp->most < FEW)
        udp->most = FEW;
}

/* Takes what has come, a batch at the most, without waiting: the count of messages, 0 for nothing, -errno, or
 * DTLSFFI_PARENTS. Messages that were cut have length 0. */
int dtlsffi_udp_receive(dtlsffi_udp *udp, dtlsffi_batch *batch)
{
    dtlsffi_message messages[DTLSFFI_BATCH];
    struct iovec pieces[DTLSFFI_BATCH];
    dtlsffi_sockaddr from[DTLSFFI_BATCH];
    dtlsffi_control controls[DTLSFFI_BATCH];
    int most = udp->most > 0 ? udp->most : FEW;
    int count;

    memset(batch, 0, offsetof(dtlsffi_batch, length));
    if (is_parents(udp))
        return DTLSFFI_PARENTS;
    for (int i = 0; i < most; i++) {
        pieces[i].iov_base = batch->data[i];
        make_room(&messages[i], &pieces[i], &from[i], &controls[i]);
    }
    do {
        count = dtlsffi_recvmmsg(udp->fd, messages, (unsigned int)most, MSG_DONTWAIT);
    } while (count < 0 && errno == EINTR);
    if (count < 0 && !dtlsffi_would_block(errno))
        return -errno;
    count = count < 0 ? dtlsffi_clear_error_queue(udp->fd) : count;
    batch->count = (uint32_t)count;
    for (int i = 0; i < count; i++)
        take_message(udp, batch, (uint32_t)i, &messages[i], &from[i]);
    udp->joined += batch->joined;
    learn(udp, batch, most);
    return count;
}

/* The next datagram of a batch, or NULL after the last. Where it stands is kept in the batch. */
const uint8_t *dtlsffi_batch_look(dtlsffi_batch *batch, uint32_t *length)
{
    uint32_t i;

    while (batch->at < batch->count && batch->offset >= batch->length[batch->at]) {
        batch->at++;
        batch->offset = 0;
    }
    if (batch->at == batch->count)
        return NULL;
    i = batch->at;
    *length = batch->length[i] - batch->offset;
    if (*length > batch->size[i])
        *length = batch->size[i];
    return batch->data[i] + batch->offset;
}

/* The same, and goes on to the one behind it. */
const uint8_t *dtlsffi_batch_next(dtlsffi_batch *batch, uint32_t *length)
{
    const uint8_t *data = dtlsffi_batch_look(batch, length);

    if (data != NULL)
        batch->offset += *length;
    return data;
}

/* The address as the socket takes it. */
static socklen_t express(const dtlsffi_address *address, bool v6_socket, dtlsffi_sockaddr *to)
{
    memset(to, 0, sizeof(*to));
    if (!v6_socket) {
        to->v4.sin_family = AF_INET;
        memcpy(&to->v4.sin_addr, address->ip, 4);
        memcpy(&to->v4.sin_port, address->port, 2);
        return sizeof(to->v4);
    }
    to->v6.sin6_family = AF_INET6;
    to->v6.sin6_scope_id = address->scope;
    memcpy(&to->v6.sin6_port, address->port, 2);
    if (address->family == 6) {
        memcpy(&to->v6.sin6_addr, address->ip, 16);
    } else {
        to->v6.sin6_addr.s6_addr[10] = to->v6.sin6_addr.s6_addr[11] = 0xff;
        memcpy(to->v6.sin6_addr.s6_addr + 12, address->ip, 4);
    }
    return sizeof(to->v6);
}

/* One more control message behind those that are there. */
void dtlsffi_control_add(struct msghdr *message, dtlsffi_control *space, int level, int type, const void *value,
                         size_t length)
{
    struct cmsghdr *part = (struct cmsghdr *)(void *)(space->room + message->msg_controllen);

    part->cmsg_level = level;
    part->cmsg_type = type;
    part->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(part), value, length);
    message->msg_control = space;
    message->msg_controllen += CMSG_SPACE(length);
}

static void set_source(struct msghdr *message, dtlsffi_control *space, const dtlsffi_address *local, bool v6_socket)
{
    dtlsffi_sockaddr as;

    (void)express(local, v6_socket, &as);
    if (v6_socket) {
        struct in6_pktinfo info = {.ipi6_addr = as.v6.sin6_addr,
                                   .ipi6_ifindex = IN6_IS_ADDR_LINKLOCAL(&as.v6.sin6_addr) ? local->scope : 0};

        dtlsffi_control_add(message, space, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    } else {
        struct in_pktinfo info = {.ipi_spec_dst = as.v4.sin_addr};

        dtlsffi_control_add(message, space, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    }
}

/* Addresses a message: to a peer, and from `local` where its family is not 0. Returns false where the socket cannot
 * speak with such a peer. */
bool dtlsffi_udp_address(const dtlsffi_udp *udp, struct msghdr *message, const dtlsffi_address *to,
                         const dtlsffi_address *local, dtlsffi_sockaddr *name, dtlsffi_control *space)
{
    bool v6 = udp->v6 != 0;

    message->msg_controllen = 0;
    if (udp->connected)
        return true;
    if (!v6 && to->family != 4)
        return false;
    message->msg_name = name;
    message->msg_namelen = express(to, v6, name);
    if (local->family != 0)
        set_source(message, space, local, v6);
    return true;
}

static ssize_t send_now(const dtlsffi_udp *udp, const struct msghdr *message)
{
    ssize_t sent;

    do {
        sent = sendmsg(udp->fd, message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

/* Whether the kernel may have refused the address to send from: one that has gone, or a broadcast's, seen from a
 * dual-stack socket. */
bool dtlsffi_udp_refuses_source(int number)
{
    return number == EINVAL || number == ENETUNREACH || number == EADDRNOTAVAIL;
}

/* Sends one datagram without waiting. Returns 0, or an errno. */
int dtlsffi_udp_send(dtlsffi_udp *udp, const dtlsffi_address *to, const dtlsffi_address *local, const uint8_t *data,
                     size_t length)
{
    dtlsffi_sockaddr name;
    dtlsffi_control space;
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    bool whole = udp->whole;
    ssize_t sent;

    if (!dtlsffi_udp_address(udp, &message, to, local, &name, &space))
        return EAFNOSUPPORT;
    sent = send_now(udp, &message);
    if (sent < 0 && errno == EMSGSIZE && whole) {
        dtlsffi_udp_may_fragment(udp);
        sent = send_now(udp, &message);
    }
    if (sent < 0 && message.msg_controllen > 0 && dtlsffi_udp_refuses_source(errno)) {
        message.msg_controllen = 0;
        sent = send_now(udp, &message);
    }
    if (sent < 0)
        return errno;
    DTLSFFI_COUNT(udp->datagrams_sent, 1);
    return 0;
}
