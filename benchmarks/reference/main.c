/* reference ROLE [OPTIONS]: see common.h.
 */
#include "common.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(const options *);
} ROLES[] = {
    {"record", role_record},
    {"handshake", role_handshake},
    {"oneway-receive", role_oneway_receive},
    {"oneway-send", role_oneway_send},
    {"pingpong-serve", role_pingpong_serve},
    {"pingpong", role_pingpong},
    {"echo", role_echo},
    {"load", role_load},
    {"flood", role_flood},
};

int main(int argc, char **argv)
{
    options o;

    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; argc > 1 && i < sizeof(ROLES) / sizeof(ROLES[0]); i++) {
        if (strcmp(argv[1], ROLES[i].name) == 0) {
            options_read(&o, argc - 1, argv + 1);
            return ROLES[i].run(&o);
        }
    }
    fprintf(stderr, "usage: reference ROLE [OPTIONS], where ROLE is one of");
    for (size_t i = 0; i < sizeof(ROLES) / sizeof(ROLES[0]); i++)
        fprintf(stderr, " %s", ROLES[i].name);
    fprintf(stderr, "\n");
    return 2;
}
