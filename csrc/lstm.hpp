// The operator's contract: the shapes, the gates and the arguments of one LSTM call. Nothing here
// belongs to the CPU or to CUDA; both drivers take these structs.
//
//   z_t = x_t·w_ih + h_{t-1}·w_hh + bias                              (B, 4H), gates i, f, c, o
//   i, f, o = sigmoid(z)   candidate = tanh(z)
//   c_t = f * c_{t-1} + i * candidate                                 (B, H)
//   h_t = o * tanh(c_t)                                               (B, H)
//
// B = batch_size, T = seq_len, I = input_size, H = hidden_size. Strides count elements. The caller
// owns every array; a call keeps none of them.
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

// Forward pass. Step s reads x at time s, or T-1-s with `go_backwards`; `output`, `gates` and
// `cells` are in the order of the steps. No output may overlap an input or another output.
template <class T>
struct LstmForward {
  LstmShape shape;
  bool go_backwards;
  Sequence<const T> x;  // (B, T, I)
  const T* h0;          // (B, H) contiguous; null means zeros
  const T* c0;          // (B, H) contiguous; null means zeros
  Sequence<T> output;   // (B, T, H), feature stride 1; null data: not wanted
  T* h;                 // (B, H) contiguous: the last hidden state
  T* c;                 // (B, H) contiguous: the last cell state
  T* gates;             // (T, B, 4H) contiguous, activated; null unless a backward pass follows
  T* cells;             // (T, B, H) contiguous; null unless a backward pass follows
};

// Backward pass over what a forward pass kept. `d_gates` receives the gradients of z; it may be the
// very array `gates`, which is then overwritten, and may overlap nothing else.
template <class T>
struct LstmBackward {
  LstmShape shape;
  bool go_backwards;
  Sequence<const T> x;         // (B, T, I), as given to the forward pass
  const T* h0;                 // (B, H) or null, as given to the forward pass
  const T* c0;                 // (B, H) or null
  Sequence<const T> output;    // (B, T, H), as written by the forward pass
  const T* gates;              // (T, B, 4H)
  const T* cells;              // (T, B, H)
  Sequence<const T> d_output;  // (B, T, H), feature stride 1; null data means zeros
  const T* d_h;                // (B, H) contiguous; null means zeros
  const T* d_c;                // (B, H) contiguous; null means zeros
  T* d_gates;                  // (T, B, 4H) contiguous
  Sequence<T> d_x;             // (B, T, I), feature stride 1; null data: not wanted
  T* d_w_ih;                   // (I, 4H) contiguous
  T* d_w_hh;                   // (H, 4H) contiguous
  T* d_bias;                   // (4H); null: not wanted
  T* d_h0;                     // (B, H) contiguous; null: not wanted
  T* d_c0;                     // (B, H) contiguous; null: not wanted
};

}  // namespace lstm_ext
