/* A thread that runs Python in a state which another one has made, as some embedders' do. */
#include <Python.h>

#include <pthread.h>

static PyThreadState *state;
static const char *code;

static void *
run_code(void *Py_UNUSED(unused))
{
    PyEval_AcquireThread(state);
    PyRun_SimpleString(code);
    PyThreadState_Clear(state);
    PyThreadState_DeleteCurrent();
    return NULL;
}

/* Called with the GIL held. */
__attribute__((visibility("default"))) void
run_in_foreign_thread(const char *text)
{
    pthread_t thread;
    state = PyThreadState_New(PyInterpreterState_Main());
    code = text;
    Py_BEGIN_ALLOW_THREADS
    if (pthread_create(&thread, NULL, run_code, NULL) == 0) {
        pthread_join(thread, NULL);
    }
    Py_END_ALLOW_THREADS
}
