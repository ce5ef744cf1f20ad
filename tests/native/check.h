/* What the C programs of these tests have in common. */
#ifndef TESTS_NATIVE_CHECK_H
#define TESTS_NATIVE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                     \
    do {                                                                     \
        if (!(condition)) {                                                  \
            printf("line %d: not so: %s\n", __LINE__, #condition);           \
            exit(1);                                                         \
        }                                                                    \
    } while (0)

#endif
