/* Why a call failed.
 *
 * OpenSSL's error queue and errno belong to a thread and are overwritten by whatever comes next, so they are read here,
 * in the call that failed, and nowhere else. Python reads the copy, in the same thread, straight after.
 */
#include "core.h"

#include <errno.h>
#include <stdio.h>

static _Thread_local dtlsffi_fault last;

dtlsffi_fault *dtlsffi_fault_last(void)
{
    return &last;
}

static void copy_text(char *to, size_t size, const char *from)
{
    (void)snprintf(to, size, "%s", from == NULL ? "" : from);
}

static void describe(unsigned long code, const char *data, int flags)
{
    last.library = ERR_GET_LIB(code);
    last.reason = ERR_GET_REASON(code);
    copy_text(last.library_name, sizeof(last.library_name), ERR_lib_error_string(code));
    copy_text(last.reason_text, sizeof(last.reason_text), ERR_reason_error_string(code));
    copy_text(last.detail, sizeof(last.detail), (flags & ERR_TXT_STRING) != 0 ? data : NULL);
    if (ERR_SYSTEM_ERROR(code))
        last.library = 0;
}

/* The newest entry of the queue says what the caller's call came to (as ssl reports it); a system error beneath it
 * says why. */
void dtlsffi_fault_take(void)
{
    unsigned long code;
    const char *data = NULL;
    int flags = 0;
    int system = 0;

    memset(&last, 0, sizeof(last));
    while ((code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
        if (ERR_SYSTEM_ERROR(code))
            system = ERR_GET_REASON(code);
        describe(code, data, flags);
    }
    last.errno_value = system;
}

int dtlsffi_fault_system(int errno_value)
{
    memset(&last, 0, sizeof(last));
    last.errno_value = errno_value;
    return DTLSFFI_FAULT;
}
