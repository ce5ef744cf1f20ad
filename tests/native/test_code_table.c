/* The table of code objects beside objects that are none, or none any more. */
#include "code_table.h"

#include "check.h"

PyTypeObject PyCode_Type;
PyTypeObject PyTuple_Type;
PyTypeObject PyBytes_Type;
PyObject _Py_NoneStruct;

static int given_back;

void
_Py_Dealloc(PyObject *Py_UNUSED(object))
{
    given_back++;
}

#define UNITS 3000 /* more than are read at once */

static PyObject tuple;
static PyObject bytes;

/* A code object with a reference, whose last instruction leaves. */
static PyCodeObject *
make_code(void)
{
    PyCodeObject *code = calloc(1, FRAMES_CODE_BYTES + UNITS * sizeof(_Py_CODEUNIT));
    CHECK(code != NULL);
    Py_SET_REFCNT((PyObject *)code, 1);
    code->ob_base.ob_base.ob_type = &PyCode_Type;
    code->ob_base.ob_size = UNITS;
    code->co_stacksize = 2;
    code->co_nlocalsplus = 3;
#if PY_VERSION_HEX >= 0x030c0000
    code->co_framesize = 5 + (int)(FRAMES_HEADER_BYTES / sizeof(PyObject *));
#endif
    code->co_consts = code->co_names = code->co_localsplusnames = &tuple;
    code->co_exceptiontable = code->co_linetable = &bytes;
    ((unsigned char *)code)[FRAMES_CODE_BYTES + (UNITS - 1) * sizeof(_Py_CODEUNIT)] = RETURN_VALUE;
    return code;
}

static const struct known_code *
get(struct code_table *table, const void *code)
{
    return code_table_get(table, address_of(code), table->destroyed);
}

static int
references(PyCodeObject *code)
{
    return (int)Py_REFCNT((PyObject *)code);
}

static void
test_one_that_lives(void)
{
    struct code_table table;
    PyCodeObject *code = make_code();
    int last = (UNITS - 1) * (int)sizeof(_Py_CODEUNIT);
    code_table_init(&table, 10);
    const struct known_code *known = get(&table, code);
    CHECK(known != NULL && known->facts.length == UNITS * (int)sizeof(_Py_CODEUNIT));
    CHECK(known->facts.frame == (int)FRAMES_HEADER_BYTES + 5 * (int)sizeof(PyObject *));
    CHECK(code_table_leaves(known, last) && !code_table_leaves(known, last - 2));
    CHECK(!code_table_leaves(known, -1));
    /* What only looked like it when it was noted is looked at again. */
    ((unsigned char *)code)[FRAMES_CODE_BYTES + last] = 0;
    CHECK(!code_table_leaves(known, last));
    CHECK(table.leaving_bytes == UNITS / 8 + 1);
    code_table_check(&table);
    code_table_check(&table);
    CHECK(get(&table, code) != NULL && references(code) == 1);
    code_table_free(&table);
    free(code);
}

/* Another one may be there afterwards: whoever named it before that named the dead one. */
static void
test_one_that_dies(void)
{
    struct code_table table;
    PyCodeObject *codes[] = {make_code(), make_code(), make_code()};
    code_table_init(&table, 10);
    for (uint32_t i = 0; i < 3; i++) {
        struct known_code *known = code_table_get(&table, address_of(codes[i]), 0);
        CHECK(known != NULL && known->function == 0);
        known->function = i + 1;
    }
    uint64_t before = table.destroyed;
    code_table_dying(&table, (PyObject *)codes[0]);
    CHECK(table.count == 2 && table.leaving_bytes == 2 * (UNITS / 8 + 1));
    CHECK(code_table_get(&table, address_of(codes[0]), before) == NULL);
    for (uint32_t i = 0; i < 3; i++) {
        const struct known_code *known = get(&table, codes[i]);
        CHECK(known != NULL && known->function == (i == 0 ? 0 : i + 1));
    }
    PyCodeObject *unknown = make_code();
    for (uint32_t i = 0; i <= CODES_DESTROYED; i++) {
        code_table_dying(&table, (PyObject *)unknown);
    }
    CHECK(code_table_get(&table, address_of(codes[1]), before) == NULL); /* too long ago */
    CHECK(get(&table, codes[1]) != NULL);
    for (uint32_t i = 0; i < 3; i++) {
        code_table_dying(&table, (PyObject *)codes[i]);
        free(codes[i]);
    }
    CHECK(table.count == 0 && table.leaving_bytes == 0);
    code_table_free(&table);
    free(unknown);
}

static void
test_one_that_turns_out_to_be_none(void)
{
    struct code_table table;
    PyCodeObject *codes[] = {make_code(), make_code(), make_code()};
    code_table_init(&table, 10);
    for (int i = 0; i < 3; i++) {
        CHECK(get(&table, codes[i]) != NULL);
    }
    codes[0]->ob_base.ob_base.ob_type = &PyTuple_Type;
    codes[1]->ob_base.ob_size = 10; /* it was only being made */
    code_table_check(&table);
    CHECK(table.count == 1 && get(&table, codes[0]) == NULL && get(&table, codes[2]) != NULL);
    const struct known_code *known = get(&table, codes[1]);
    CHECK(known != NULL && known->facts.length == 10 * (int)sizeof(_Py_CODEUNIT));
    code_table_free(&table);
    for (int i = 0; i < 3; i++) {
        CHECK(references(codes[i]) == 1); /* was not written to */
        free(codes[i]);
    }
}

/* A code object with one thing wrong is none. */
static void
test_what_cannot_be_one(void)
{
    struct code_table table;
    PyObject other = {.ob_type = &PyBytes_Type};
    code_table_init(&table, 10);
    Py_SET_REFCNT(&other, 1);
    for (int wrong = 0; wrong < 9; wrong++) {
        PyCodeObject *code = make_code();
        switch (wrong) {
        case 0:
            Py_SET_REFCNT((PyObject *)code, 0);
            break;
        case 1: /* the link of something that has been freed */
            memcpy(code, &code, sizeof code);
            break;
        case 2:
            code->ob_base.ob_size = -1;
            break;
        case 3:
            code->ob_base.ob_size = PY_SSIZE_T_MAX;
            break;
        case 4: /* longer than there is memory */
            code->ob_base.ob_size = INT32_MAX / 2;
            break;
        case 5:
            code->_co_firsttraceable = -1;
            break;
        case 6:
            code->co_stacksize = INT32_MAX;
            code->co_nlocalsplus = INT32_MAX;
            break;
        case 7:
            code->co_consts = &other;
            break;
        default:
            code->co_linetable = (PyObject *)8;
        }
        CHECK(get(&table, code) == NULL);
        free(code);
    }
    CHECK(get(&table, NULL) == NULL && get(&table, (void *)-8) == NULL);
    CHECK(get(&table, (char *)&table + 1) == NULL && table.count == 0);
    code_table_free(&table);
}

int
main(void)
{
    tuple.ob_type = &PyTuple_Type;
    bytes.ob_type = &PyBytes_Type;
    Py_SET_REFCNT(&tuple, 5);
    Py_SET_REFCNT(&bytes, 5);
    test_one_that_lives();
    test_one_that_dies();
    test_one_that_turns_out_to_be_none();
    test_what_cannot_be_one();
    CHECK(given_back == 0);
    puts("done");
    return 0;
}
