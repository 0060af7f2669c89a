// The operator's contract: the shapes, the gates and the arguments of one LSTM call. Nothing here
// belongs to the CPU or to CUDA; both drivers take these structs.
//
//   z_t = x_t·w_ih + h_{t-1}·w_hh + bias                              (B, 4H), gates i, f, c, o
//   i, f, o = sigmoid(z)   candidate = tanh(z)
//   c_t = f * c_{t-1} + i * candidate                                 (B, H)
//   h_t = o * tanh(c_t)                                               (B, H)
//
// That is the plain cell. What a variant changes stands in CellOptions and lstm_variants.hpp, and
// which of the T slots are steps, in Slots.
//
// B = batch_size, T = seq_len, I = input_size, H = hidden_size, P = output_size, which is H without
// a projection. N is the number of steps of all rows: B * T, or with a mask what it leaves. Strides
// count elements. The caller owns every array; a call keeps none of them.
#pragma once

#include <cstdint>

namespace lstm_ext {

// The order of the gates along an axis of 4H, in every array of the project.
enum Gate : int { kInput = 0, kForget = 1, kCandidate = 2, kOutput = 3 };
constexpr int kNumGates = 4;

struct LstmShape {
  int64_t batch_size;
  int64_t seq_len;
  int64_t input_size;
  int64_t hidden_size;
  int64_t projection_size = 0;  // 0: h is not projected

  int64_t output_size() const { return projection_size > 0 ? projection_size : hidden_size; }
};

// y of z, with the numbers alpha (a) and beta (b).
enum class ActivationKind : int {
  kSigmoid,
  kTanh,             // a * tanh(b * z)
  kAffine,           // a * z + b
  kHardSigmoid,      // a * z + b, within [0, 1]
  kRelu,             // z, or 0 below 0
  kLeakyRelu,        // z, or a * z below 0
  kThresholdedRelu,  // z above a, else 0
  kElu,              // b * z, or b * a * (e^z - 1) below 0
  kSoftsign,         // z / (1 + |z|)
  kExponential,      // e^z
  kSilu,             // z * sigmoid(z)
  kSoftplus,         // log(1 + e^z)
  kGelu,             // z times the normal distribution function of z
};

struct ActivationOptions {
  ActivationKind kind;
  double alpha = 1, beta = 1;
};

// What may differ from the plain cell, weights aside.
struct CellOptions {
  ActivationOptions recurrent{ActivationKind::kSigmoid};  // of i, f, o
  ActivationOptions candidate{ActivationKind::kTanh};
  ActivationOptions output{ActivationKind::kTanh};  // of the cell, on its way to h
  double clip = 0;                                  // of z, 0: none
  double cell_clip = 0;                             // of c, 0: none
  bool input_forget = false;                        // f is 1 - i
  double zoneout = 0,
         cell_zoneout = 0;  // the share of the state before that is kept, without noise
};

// A (B, T, features) array of any layout.
template <class T>
struct Sequence {
  T* data;
  int64_t batch_stride;
  int64_t time_stride;
  int64_t feature_stride;

  T* at(int64_t batch, int64_t time) const {
    return data + batch * batch_stride + time * time_stride;
  }
  explicit operator bool() const { return data != nullptr; }
};

// Which slots of a sequence are steps. Slot s stands for time s, or T-1-s with `go_backwards`; the
// arrays here are in the order of time. A row keeps its state in a slot that is no step, and its
// output there is that of its last step since the beginning or a reset, else zero; or it is always
// zero. No x is read there.
//
// Rows in order of their number of steps, the longest first and equal ones as in the batch, have
// positions; the n-th steps of all rows that have one stand together, by position. So are the N
// rows of `gates`, `cells` and `hidden` ordered: without a mask, as (T, B).
struct Slots {
  const int64_t* lengths = nullptr;  // (B): the steps are those at times below it; null: no limit
  const uint8_t* mask = nullptr;     // (B, T) contiguous: whether there is a step; null: everywhere
  const uint8_t* reset = nullptr;    // (B, T) contiguous: the state is zero from there on; or null
  bool repeats_output = true;        // where there is no step
};

// What is drawn anew for each call in training. Zoneout is in the order of the slots.
template <class T>
struct Noise {
  const T* h = nullptr;  // (B, P): factors of h where it is multiplied with w_hh; null: none
  const uint8_t* zoneout = nullptr;       // (B, T, P): where h keeps its value; null: a share
  const uint8_t* cell_zoneout = nullptr;  // (B, T, H): the same for c
};

// Forward pass. Slot s reads x at time s, or T-1-s with `go_backwards`; `output` is in the order of
// the slots. No output may overlap an input or another output.
template <class T>
struct LstmForward {
  LstmShape shape;
  bool go_backwards;
  Sequence<const T> x;  // (B, T, I)
  const T* h0;          // (B, P) contiguous; null means zeros
  const T* c0;          // (B, H) contiguous; null means zeros
  Sequence<T> output;   // (B, T, P), feature stride 1; null data: not wanted
  T* h;                 // (B, P) contiguous: the last hidden state
  T* c;                 // (B, H) contiguous: the last cell state
  T* gates;  // (N, 4H) contiguous: activated with sigmoid and tanh and no clip, else z after clips,
             // and so with layer normalisation; null: not wanted
  T* cells;  // (N, H) contiguous; null as gates
  T* hidden = nullptr;  // (N, H) contiguous: h before it is projected; null: not wanted
  T* normed = nullptr;  // (N, 8H + 2) contiguous: for a backward pass with layer normalisation
  Slots slots{};
  Noise<T> noise{};
  bool activated = false;  // gates are activated in any cell: to look at, not for a backward pass
};

// Backward pass over what a forward pass kept. `d_gates` receives the gradients of z; it may be the
// very array `gates`, which is then overwritten, and may overlap nothing else.
template <class T>
struct LstmBackward {
  LstmShape shape;
  bool go_backwards;
  Sequence<const T> x;         // (B, T, I), as given to the forward pass
  const T* h0;                 // (B, P) or null, as given to the forward pass
  const T* c0;                 // (B, H) or null
  Sequence<const T> output;    // (B, T, P), as written by the forward pass
  const T* gates;              // (N, 4H)
  const T* cells;              // (N, H)
  Sequence<const T> d_output;  // (B, T, P), feature stride 1; null data means zeros
  const T* d_h;                // (B, P) contiguous; null means zeros
  const T* d_c;                // (B, H) contiguous; null means zeros
  T* d_gates;                  // (N, 4H) contiguous
  Sequence<T> d_x;  // (B, T, I), feature stride 1; null data: not wanted. Where there is no step it
                    // is left as it is
  T* d_w_ih;        // (I, 4H) contiguous
  T* d_w_hh;        // (P, 4H) contiguous
  T* d_bias;        // (4H); null: not wanted
  T* d_h0;          // (B, P) contiguous; null: not wanted
  T* d_c0;          // (B, H) contiguous; null: not wanted
  const T* hidden = nullptr;  // (N, H), with a projection
  T* normed = nullptr;        // (N, 8H + 2), with layer normalisation
  T* d_peephole = nullptr;    // (3H): i, f, o; null: not wanted
  T* d_w_hr = nullptr;        // (H, P) contiguous, with a projection
  T* d_norm = nullptr;        // (10H): gains of both products, of the cell, and its offset
  Slots slots{};
  Noise<T> noise{};
  bool adds_to_d_x = false;  // rather than replacing it
};

}  // namespace lstm_ext
