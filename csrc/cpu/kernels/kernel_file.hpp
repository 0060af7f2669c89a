// What every kernels_<isa>.cpp includes first: declarations and macros, no functions of its own.
#pragma once

#include <cstdint>

#include "cpu/kernel_set.hpp"
#include "lstm.hpp"
#include "lstm_cell.hpp"

#if defined(__clang__)
#define LSTM_EXT_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define LSTM_EXT_UNROLL _Pragma("GCC unroll 16")
#else
#define LSTM_EXT_UNROLL
#endif
