// What every kernels_<isa>.cpp includes first: declarations and macros, no functions of its own.
#pragma once

#include <cstdint>

#include "cpu/kernel_set.hpp"
#include "cpu/scalar_functions.hpp"
#include "lstm.hpp"
#include "lstm_cell.hpp"
#include "lstm_variants.hpp"

// Loops over registers are unrolled. One over k whose end is known is not: its turns would be
// mixed, and need more registers than there are.
#if defined(__clang__)
#define LSTM_EXT_UNROLL _Pragma("unroll")
#define LSTM_EXT_KEEP_LOOP _Pragma("nounroll")
#elif defined(__GNUC__)
#define LSTM_EXT_UNROLL _Pragma("GCC unroll 16")
#define LSTM_EXT_KEEP_LOOP _Pragma("GCC unroll 1")
#else
#define LSTM_EXT_UNROLL
#define LSTM_EXT_KEEP_LOOP
#endif

// What only few calls need stays out of the loops that all go through.
#if defined(__GNUC__)
#define LSTM_EXT_NOINLINE __attribute__((noinline))
#elif defined(_MSC_VER)
#define LSTM_EXT_NOINLINE __declspec(noinline)
#else
#define LSTM_EXT_NOINLINE
#endif

// Into the second-level cache, and into the first in order to write. The address need not be
// readable.
#if defined(__GNUC__)
#define LSTM_EXT_PREFETCH(p) __builtin_prefetch(p, 0, 2)
#define LSTM_EXT_PREFETCH_TO_WRITE(p) __builtin_prefetch(p, 1, 3)
#elif defined(_M_X64)
#define LSTM_EXT_PREFETCH(p) _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1)
#define LSTM_EXT_PREFETCH_TO_WRITE(p) _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0)
#else
#define LSTM_EXT_PREFETCH(p) static_cast<void>(p)
#define LSTM_EXT_PREFETCH_TO_WRITE(p) static_cast<void>(p)
#endif

// How many rows the highest tile has, if not LSTM_EXT_TILE_ROWS: see kMostRows.
#ifndef LSTM_EXT_MOST_ROWS
#define LSTM_EXT_MOST_ROWS LSTM_EXT_TILE_ROWS
#endif
