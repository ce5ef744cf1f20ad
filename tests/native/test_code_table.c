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
    CHECK(code_table_init(&table, 10));
    const struct known_code *known = get(&table, code);
    CHECK(known != NULL && known->facts.length == UNITS * (int)sizeof(_Py_CODEUNIT));
    CHECK(known->facts.frame == (int)FRAMES_HEADER_BYTES + 5 * (int)sizeof(PyObject *));
    CHECK(code_table_leaves(known, last) && !code_table_leaves(known, last - 2));
    CHECK(!code_table_leaves(known, -1));
    /* What only looked like it when it was noted is looked at again. */
    ((unsigned char *)code)[FRAMES_CODE_BYTES + last] = 0;
    CHECK(!code_table_leaves(known, last));
    size_t noted = code_table_bytes(&table) - table.slots * sizeof *table.codes;
    CHECK(noted == UNITS / 8 + 1);
    code_table_own(&table);
    code_table_own(&table);
    CHECK(references(code) == 2 && !code_table_is_lost(&table, (PyObject *)code));
    CHECK(code_table_dying(&table, (PyObject *)code));
    code_table_free(&table);
    CHECK(references(code) == 1);
    free(code);
}

static void
test_one_that_is_gone_when_a_reference_is_to_be_taken(void)
{
    struct code_table table;
    PyCodeObject *code = make_code();
    CHECK(code_table_init(&table, 10) && get(&table, code) != NULL);
    code->ob_base.ob_base.ob_type = &PyTuple_Type;
    code_table_own(&table);
    CHECK(references(code) == 1); /* was not written to */
    CHECK(code_table_is_lost(&table, (PyObject *)code) && get(&table, code) == NULL);
    CHECK(!code_table_dying(&table, (PyObject *)code));
    code_table_free(&table);
    CHECK(references(code) == 1);
    free(code);
}

static void
test_one_that_was_only_being_made(void)
{
    struct code_table table;
    PyCodeObject *code = make_code();
    code->ob_base.ob_size = 10;
    CHECK(code_table_init(&table, 10) && get(&table, code) != NULL);
    code->ob_base.ob_size = UNITS;
    code_table_own(&table);
    CHECK(references(code) == 2 && !code_table_is_lost(&table, (PyObject *)code));
    const struct known_code *known = get(&table, code);
    CHECK(known != NULL && known->facts.length == UNITS * (int)sizeof(_Py_CODEUNIT));
    CHECK(code_table_leaves(known, (UNITS - 1) * (int)sizeof(_Py_CODEUNIT)));
    code_table_free(&table);
    free(code);
}

/* A code object with one thing wrong is none. */
static void
test_what_cannot_be_one(void)
{
    struct code_table table;
    PyObject other = {.ob_type = &PyBytes_Type};
    CHECK(code_table_init(&table, 10));
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
    test_one_that_is_gone_when_a_reference_is_to_be_taken();
    test_one_that_was_only_being_made();
    test_what_cannot_be_one();
    CHECK(given_back == 0);
    puts("done");
    return 0;
}
