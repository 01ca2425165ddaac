/* A libFuzzer harness for the code of guard.c that parses /proc: any local user chooses mount points and names of
 * programs. `make fuzz` builds and runs it; nothing of Python is called.
 */
#include "guard.c"

#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct connection ours = {.device = "0:43", .mounted = "/mnt/a\\040b"};
    int file = memfd_create("mountinfo", MFD_CLOEXEC);
    if (file < 0 || write(file, data, size) != (ssize_t)size || lseek(file, 0, SEEK_SET) != 0)
        abort();
    enum ownership found = ownership_in(file, &ours);
    close(file);
    if (found != OURS_DETACHED && memmem(data, size, ours.device, strlen(ours.device)) == NULL)
        abort(); /* a mount was found that the text does not have */
    if (found == OURS_MOUNTED && memmem(data, size, ours.mounted, strlen(ours.mounted)) == NULL)
        abort();

    char text[1024];
    size_t length = size < sizeof(text) ? size : sizeof(text) - 1;
    memcpy(text, data, length);
    text[length] = '\0';
    uintptr_t start, end;
    if (find_arguments(text, &start, &end) && end - start < sizeof(GUARD_NAME))
        abort(); /* the name would be written beyond the arguments */
    says_stopped(text);
    return 0;
}
