// What the package threadpoolctl finds in this library: functions of C by name, without Python.
#include "cpu/threads.hpp"

#ifdef _WIN32
#define LSTM_EXT_EXPORT __declspec(dllexport)
#else
#define LSTM_EXT_EXPORT __attribute__((visibility("default")))
#endif

extern "C" {

LSTM_EXT_EXPORT int lstm_ext_get_num_threads(void) { return lstm_ext::cpu::num_threads(); }

LSTM_EXT_EXPORT void lstm_ext_limit_num_threads(int n) { lstm_ext::cpu::limit_num_threads(n); }
}
