#include "thread_list.h"

#include "guarded.h"

struct thread_list
thread_list_from(struct address newest, const PyInterpreterState *interpreter)
{
    return (struct thread_list){.interpreter = interpreter, .next = newest};
}

bool
thread_list_next(struct thread_list *list, struct address *state, PyThreadState *copy)
{
    if (address_is_null(list->next)) {
        return false;
    }
    *state = list->next;
    if (list->count == THREAD_LIST_MAX || address_same(*state, list->passed)
        || !guarded_copy(*state, copy, FRAMES_THREAD_BYTES) || copy->interp != list->interpreter) {
        list->torn = true;
        list->next = address_of(NULL);
        return false;
    }
    /* Brent, 1980: every ring comes by the one that was passed at a power of two. */
    if ((list->count & (list->count - 1)) == 0) {
        list->passed = *state;
    }
    list->count++;
    list->next = address_of(copy->next);
    return true;
}
