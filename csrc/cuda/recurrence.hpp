// The recurrent part of an LSTM call on the GPU: what a driver is given. The input's part of z, and
// the gradients that are products over the whole sequence, are not computed here but by the matrix
// products of a library:
//
//   projected = x·w_ih                                       before lstm_forward
//   d_x = dz·w_ihᵀ   d_w_ih = xᵀ·dz   d_w_hh = h_prevᵀ·dz    after lstm_backward
//
// Everything lies in device memory, contiguous, time first, in the order of the steps; nothing
// overlaps but `d_gates` and `gates`, which may be one array. S is what is stored: float, double or
// BFloat16; A is what sums and states are: float, or double beside double. Gates i, f, c, o.
#pragma once

#include <cstdint>

#include "cuda/plan.hpp"
#include "cuda/runtime.hpp"
#include "lstm.hpp"

namespace lstm_ext {
namespace cuda {

struct BFloat16 {
  uint16_t bits;
};

// What is stored (inputs, weights, h, gates, gradients of gates) and what is computed in (sums,
// projected inputs, c and its gradients).
template <class S>
struct Computed {
  using Type = S;
};
template <>
struct Computed<BFloat16> {
  using Type = float;
};
template <class S>
using Computing = typename Computed<S>::Type;

// What may differ from the plain cell; the equations stand in lstm_variants.hpp.
template <class S>
struct Variant {
  CellOptions options;
  const S* peephole;            // (3H): i, f, o; or null
  const uint8_t* zoneout;       // (B, T, H): where h keeps its value; null: a share in `options`
  const uint8_t* cell_zoneout;  // (B, T, H): the same for c
};
template <class S>
LSTM_EXT_HOST_DEVICE bool keeps_h(const Variant<S>& variant) {
  return variant.zoneout || variant.options.zoneout > 0;
}

// What is particular about a slot, a step of one row; several at once.
constexpr uint8_t kMasked = 1;  // the state stays as it was
constexpr uint8_t kReset = 2;   // it is zero before the step, masked or not
constexpr uint8_t kSilent = 4;  // the output is zero, whatever h is

template <class S>
struct Forward {
  using Stored = S;
  using A = Computing<S>;
  static constexpr Direction kDirection = Direction::kForward;
  int64_t batch_size, seq_len, hidden_size;
  const A* projected;  // (T, B, 4H), column stride 1, other strides below
  int64_t projected_time_stride, projected_batch_stride;  // in elements
  const S* w_hh;                                          // (H, 4H)
  const S* bias;                                          // (4H) or null
  const A* c0;                                            // (B, H) or null: zeros
  const S* h0;                                            // (B, H) or null: zeros
  // What only some calls have: flags of slots (T, B), and numbers by which h is multiplied where a
  // step reads it (B, H); null without. The initial state comes as step 0 reads it.
  const uint8_t* flags;
  const A* h_factors;
  S* hidden;  // (T+1, B, H): [t] becomes h as step t reads it, [0] only with gates or flags
  S* output;  // (T, B, H): h after each step, but where silent; null without flags and factors
  S* h;       // (B, H): the last h once more; with factors it is h0 before the call
  A* c;       // (B, H): the last cell state
  S* gates;   // (T, B, 4H), activated; null unless a backward pass follows
  A* cells;   // (T, B, H); null unless a backward pass follows
};

template <class S>
struct Backward {
  using Stored = S;
  using A = Computing<S>;
  static constexpr Direction kDirection = Direction::kBackward;
  int64_t batch_size, seq_len, hidden_size;
  const S* w_hh;      // (H, 4H)
  const A* c0;        // (B, H) or null
  const S* gates;     // (T, B, 4H)
  const A* cells;     // (T, B, H)
  const S* d_output;  // (B, T, H), feature stride 1, other strides below; null: zeros
  int64_t d_output_batch_stride, d_output_time_stride;  // in elements
  const S* d_h;                                         // (B, H) or null: zeros
  const A* d_c;                                         // (B, H) or null: zeros
  const uint8_t* flags;                                 // (T, B) or null
  const A* h_factors;                                   // (B, H) or null
  A* carry;    // (B, H): scratch, for gradients of h past masked steps and zoneout; null without
  S* d_gates;  // (T, B, 4H): gradients of z
  S* d_h0;     // (B, H)
  A* d_c0;     // (B, H)
};

// The same with a variant, for float and double in steps. `gates` are z after clips, or with
// `activated` what is looked at, which is no use to a backward pass.
template <class S>
struct VariantForward : Forward<S> {
  Variant<S> variant;
  bool activated;
};
template <class S>
struct VariantBackward : Backward<S> {
  Variant<S> variant;
  S* d_peephole;  // (3H); null without peepholes
};

// The same with a projection, a product after the cell of each step: h = made·w_hr, of
// `output_size` features P. What is h, or is read as h, then has P of them in place of H: h0,
// hidden, output, h and h_factors; d_output, d_h, carry and d_h0; rows of w_hh, and places of
// zoneout.
//
//   d_w_hr = madeᵀ·d_projected    after lstm_backward
template <class S>
struct ProjectedForward : VariantForward<S> {
  int64_t output_size;
  const S* w_hr;  // (P, H): transposed
  S* made;        // (T, B, H) beside gates, else (1, B, H); zeros where masked
};
template <class S>
struct ProjectedBackward : VariantBackward<S> {
  int64_t output_size;
  const S* w_hr;   // (H, P)
  S* d_projected;  // (T, B, P): gradients of made·w_hr; zeros where masked
};

// How many features h has.
template <class S>
LSTM_EXT_HOST_DEVICE int64_t size_of_h(const Forward<S>& call) {
  return call.hidden_size;
}
template <class S>
LSTM_EXT_HOST_DEVICE int64_t size_of_h(const Backward<S>& call) {
  return call.hidden_size;
}
template <class S>
LSTM_EXT_HOST_DEVICE int64_t size_of_h(const ProjectedForward<S>& call) {
  return call.output_size;
}
template <class S>
LSTM_EXT_HOST_DEVICE int64_t size_of_h(const ProjectedBackward<S>& call) {
  return call.output_size;
}

// What a call works with besides its arrays. `scratch` has the bytes that the plan asks for, and
// `status` is memory of the host that the device sees: a wait that ended without what it waited for
// writes kTimedOut there, and what the call computes after that is NaN.
struct Execution {
  Plan plan;
  void* scratch;
  int* status;
  uint64_t timeout_ns;
  Stream stream;
};
constexpr int kTimedOut = 1;

// A call is a Forward, a VariantForward or a ProjectedForward, or back.
template <class Call>
void lstm_forward(const Call& call, const Execution& execution);
template <class Call>
void lstm_backward(const Call& call, const Execution& execution);

// The gradient of peepholes, from those of z, which backward_in_steps leaves; also without rows.
template <class S>
void sum_peepholes(const VariantBackward<S>& call, const Execution& execution);

// The algorithms, one a file (S not double but in steps, variants in steps alone). None takes a
// call without steps or rows.
template <class Call>
void forward_in_steps(const Call& call, const Execution& execution);
template <class Call>
void backward_in_steps(const Call& call, const Execution& execution);
template <class S>
void forward_in_steps(const ProjectedForward<S>& call, const Execution& execution);
template <class S>
void backward_in_steps(const ProjectedBackward<S>& call, const Execution& execution);
template <class S>
void forward_in_clusters(const Forward<S>& call, const Execution& execution);
template <class S>
void backward_in_clusters(const Backward<S>& call, const Execution& execution);
template <class S>
void forward_in_grid(const Forward<S>& call, const Execution& execution);
template <class S>
void backward_in_grid(const Backward<S>& call, const Execution& execution);

}  // namespace cuda
}  // namespace lstm_ext
