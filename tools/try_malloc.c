#include "tool.h"
const char try_malloc_help[] = "";
int try_malloc_main(int argc, char **argv) {
    (void)argc;
    (void)argv;
    return 0;
}
