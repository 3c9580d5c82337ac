/* One UDP socket for any number of peers: datagrams in by the batch, each with its sender and the address it was sent to,
 * and out, each from the address that was asked (RFC 1122 section 4.1.3.5).
 */
#include "core.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} sockaddrs;

typedef union {
    struct cmsghdr header;
    uint8_t room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
} control;

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

static bool understand(dtlsffi_address *address, const sockaddrs *from)
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

static void find_local(dtlsffi_address *local, struct msghdr *message)
{
    struct cmsghdr *part;

    memset(local, 0, sizeof(*local));
    for (part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(part), sizeof(info));
            set_v4(local, &info.ipi_spec_dst);
        } else if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(part), sizeof(info));
            set_v6(local, &info.ipi6_addr, info.ipi6_ifindex);
        }
    }
}

/* Has the kernel tell the address that each datagram was sent to. A socket that cannot is as good without. */
void dtlsffi_udp_prepare(int fd)
{
    int on = 1;

    (void)setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
}

/* Takes what has come, without waiting: the count, 0 for nothing, or -errno. Datagrams that were cut have length 0. */
int dtlsffi_udp_receive(int fd, dtlsffi_batch *batch)
{
    struct mmsghdr messages[DTLSFFI_BATCH];
    struct iovec pieces[DTLSFFI_BATCH];
    sockaddrs from[DTLSFFI_BATCH];
    control controls[DTLSFFI_BATCH];
    int count;

    memset(messages, 0, sizeof(messages));
    for (int i = 0; i < DTLSFFI_BATCH; i++) {
        pieces[i].iov_base = batch->data[i];
        pieces[i].iov_len = sizeof(batch->data[i]);
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_name = &from[i];
        messages[i].msg_hdr.msg_namelen = sizeof(from[i]);
        messages[i].msg_hdr.msg_control = &controls[i];
        messages[i].msg_hdr.msg_controllen = sizeof(controls[i]);
    }
    do {
        count = recvmmsg(fd, messages, DTLSFFI_BATCH, MSG_DONTWAIT, NULL);
    } while (count < 0 && errno == EINTR);
    if (count < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        bool whole = (messages[i].msg_hdr.msg_flags & MSG_TRUNC) == 0;

        batch->length[i] = understand(&batch->senders[i], &from[i]) && whole ? messages[i].msg_len : 0;
        find_local(&batch->receivers[i], &messages[i].msg_hdr);
    }
    return count;
}

static socklen_t express(const dtlsffi_address *address, bool v6_socket, sockaddrs *to)
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

static void set_source(struct msghdr *message, control *space, const dtlsffi_address *local, bool v6_socket)
{
    sockaddrs as;

    memset(space, 0, sizeof(*space));
    message->msg_control = space;
    (void)express(local, v6_socket, &as);
    if (v6_socket) {
        struct in6_pktinfo info = {.ipi6_addr = as.v6.sin6_addr,
                                   .ipi6_ifindex = IN6_IS_ADDR_LINKLOCAL(&as.v6.sin6_addr) ? local->scope : 0};
        space->header.cmsg_level = IPPROTO_IPV6;
        space->header.cmsg_type = IPV6_PKTINFO;
        space->header.cmsg_len = CMSG_LEN(sizeof(info));
        message->msg_controllen = CMSG_SPACE(sizeof(info));
        memcpy(CMSG_DATA(&space->header), &info, sizeof(info));
    } else {
        struct in_pktinfo info = {.ipi_spec_dst = as.v4.sin_addr};
        space->header.cmsg_level = IPPROTO_IP;
        space->header.cmsg_type = IP_PKTINFO;
        space->header.cmsg_len = CMSG_LEN(sizeof(info));
        message->msg_controllen = CMSG_SPACE(sizeof(info));
        memcpy(CMSG_DATA(&space->header), &info, sizeof(info));
    }
}

/* Sends one datagram without waiting, from the address `local` where its family is not 0. Returns 0, or -errno. */
int dtlsffi_udp_send(int fd, int v6_socket, const dtlsffi_address *to, const dtlsffi_address *local,
                     const uint8_t *data, size_t length)
{
    sockaddrs name;
    control space;
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    struct msghdr message = {.msg_name = &name, .msg_iov = &piece, .msg_iovlen = 1};
    ssize_t sent;

    if (!v6_socket && to->family != 4)
        return -EAFNOSUPPORT;
    message.msg_namelen = express(to, v6_socket != 0, &name);
    if (local->family != 0)
        set_source(&message, &space, local, v6_socket != 0);
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Answers the ClientHellos of a batch that have no cookie, and marks them as dealt with: DTLSFFI_ANSWERED. Here and not
 * in Python, since this is what a flood is made of. Where a batch is full, more comes than is answered in time, and what
 * waits in the kernel is lost, whoever sent it: so every second stranger is passed over then (an answer costs more than
 * a look), and those who have proved their addresses get through. The same goes for most fragments of ClientHellos once
 * there is no room for more of them (`full`). Returns how many were answered; what the kernel does not take is lost. */
int dtlsffi_udp_answer_untrusted(int fd, int v6_socket, dtlsffi_cookie_jar *jar, dtlsffi_batch *batch, int count,
                                 int full, int *passed_over)
{
    static _Atomic unsigned turn;
    bool flooded = count == DTLSFFI_BATCH;
    uint8_t replies[DTLSFFI_BATCH][DTLSFFI_HELLO_VERIFY_REQUEST];
    struct mmsghdr messages[DTLSFFI_BATCH];
    struct iovec pieces[DTLSFFI_BATCH];
    sockaddrs names[DTLSFFI_BATCH];
    control spaces[DTLSFFI_BATCH];
    int answers = 0;
    int sent;

    *passed_over = 0;
    for (int i = 0; i < count; i++) {
        struct msghdr *message = &messages[answers].msg_hdr;
        bool pass = flooded && (turn++ & 1);
        uint8_t random[32];
        int length = dtlsffi_hello_look_untrusted(jar, &batch->senders[i], batch->data[i], batch->length[i],
                                                  pass ? NULL : replies[answers], random);

        if (length == DTLSFFI_HELLO_UNPROVEN || (length == DTLSFFI_HELLO_FRAGMENT && flooded && full && turn % 8 != 0)) {
            batch->length[i] = DTLSFFI_ANSWERED;
            ++*passed_over;
        }
        if (length <= 0)
            continue;
        batch->length[i] = DTLSFFI_ANSWERED;
        memset(message, 0, sizeof(*message));
        pieces[answers].iov_base = replies[answers];
        pieces[answers].iov_len = (size_t)length;
        message->msg_iov = &pieces[answers];
        message->msg_iovlen = 1;
        message->msg_name = &names[answers];
        message->msg_namelen = express(&batch->senders[i], v6_socket != 0, &names[answers]);
        if (batch->receivers[i].family != 0)
            set_source(message, &spaces[answers], &batch->receivers[i], v6_socket != 0);
        answers++;
    }
    for (int done = 0; done < answers; done += sent > 0 ? sent : 1)
        sent = sendmmsg(fd, messages + done, (unsigned int)(answers - done), MSG_DONTWAIT | MSG_NOSIGNAL);
    return answers;
}
