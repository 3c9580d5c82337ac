/* To be preloaded: a system whose sockets know nothing of UDP_SEGMENT and UDP_GRO.
 */
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#define SEGMENT 103
#define GRO 104
#define UDP_LEVEL 17

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    static int (*real)(int, int, int, const void *, socklen_t);

    if (level == UDP_LEVEL && (name == SEGMENT || name == GRO)) {
        errno = ENOPROTOOPT;
        return -1;
    }
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "setsockopt");
    return real(fd, level, name, value, length);
}

static int asks(const struct msghdr *message)
{
    struct msghdr *m = (struct msghdr *)(size_t)message;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == UDP_LEVEL && c->cmsg_type == SEGMENT)
            return 1;
    }
    return 0;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    static ssize_t (*real)(int, const struct msghdr *, int);

    if (asks(message)) {
        errno = EIO;
        return -1;
    }
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "sendmsg");
    return real(fd, message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    static int (*real)(int, struct mmsghdr *, unsigned int, int);

    if (count > 0 && asks(&messages[0].msg_hdr)) {
        errno = EIO;
        return -1;
    }
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "sendmmsg");
    return real(fd, messages, count, flags);
}
