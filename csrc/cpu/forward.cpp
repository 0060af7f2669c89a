#include <algorithm>
#include <deque>

#include "cpu/buffer.hpp"
#include "cpu/drivers.hpp"
#include "cpu/encoded.hpp"
#include "cpu/partition.hpp"
#include "cpu/threads.hpp"

namespace lstm_ext {
namespace cpu {
namespace {

// What all threads of a call share, and how the call is cut up.
//
// The input's part of z is computed in one of two ways, with the same bits. Fused: each step
// multiplies x_t and h_{t-1} in one tile; right when a step has rows enough to reuse the weights.
// Chunked: one product makes the input's part for as many steps as stay in the cache, so that few
// rows do not read the input weights anew in every step.
template <class F>
struct ForwardPlan {
  using T = typename Format<F>::Value;
  static constexpr bool kEncodes = Format<F>::kEncodes;

  const PackedWeights<F>& weights;
  const LstmForward<T>& call;
  ThreadGrid grid;
  int64_t max_rows;    // of a row group
  int64_t max_blocks;  // of a unit share
  int64_t chunk;       // steps whose input is projected at once; 0: fused
  bool packs_x;        // rows of x are gathered (or encoded) before they are multiplied
  bool starts_from_x;  // the first step leaves out the product of its h, which is zero
  int64_t state_stride;

  ForwardPlan(const PackedWeights<F>& w, const LstmForward<T>& c, int threads)
      : weights(w), call(c) {
    const LstmShape& s = c.shape;
    grid = thread_grid(threads, s.batch_size, w.num_blocks(), s.hidden_size, kWeightBytes);
    max_rows = divide_up(s.batch_size, grid.row_groups);
    max_blocks = divide_up(w.num_blocks(), grid.unit_groups);
    constexpr int64_t kRowsThatReuseWeights = 12;
    constexpr int64_t kChunkBytes = 256 << 10;
    constexpr int64_t kSharedCache = 16 << 20, kLargeChunk = 4;
    chunk = 0;
    const int64_t input_bytes = s.input_size * kNumGates * s.hidden_size * kWeightBytes;
    if (max_rows < kRowsThatReuseWeights) {
      const int64_t step_bytes = max_rows * z_row_size() * int64_t{sizeof(T)};
      chunk = std::max<int64_t>(1, kChunkBytes / step_bytes);
    } else if (input_bytes > kSharedCache) {
      chunk = kLargeChunk;  // the weights come from memory: read them once for several steps
    }
    chunk = s.seq_len > 1 ? std::min(s.seq_len, chunk) : 0;
    starts_from_x = chunk == 0 && c.h0 == nullptr && w.w_hh_is_finite();
    packs_x = kEncodes || c.x.feature_stride != 1 || (chunk > 0 && max_rows > 1);
    // A power-of-two distance would put all rows of h into the same sets of the cache.
    state_stride = w.padded_units() + (s.batch_size > 1 ? int64_t{kCacheLine / sizeof(T)} : 0);
  }

  static constexpr int64_t kWeightBytes = sizeof(typename Format<F>::Weight);

  int64_t z_row_size() const { return max_blocks * kNumGates * weights.kernels().lanes; }
  int64_t state_size() const { return call.shape.batch_size * state_stride; }
  int64_t totals_size() const {
    return std::max<int64_t>(max_rows, 2) * kNumGates * weights.kernels().lanes;
  }
  int64_t z_size() const { return chunk * max_rows * z_row_size(); }
  int64_t x_rows() const { return std::max<int64_t>(1, chunk) * max_rows; }
  // Gathered x; of a format that encodes, a row on its way there.
  int64_t x_size() const { return packs_x ? (kEncodes ? 1 : x_rows()) * call.shape.input_size : 0; }
  EncodedRows<F> encoded_x() const { return {weights.kernels(), x_rows(), call.shape.input_size}; }
  EncodedRows<F> encoded_h() const { return {weights.kernels(), max_rows, call.shape.hidden_size}; }
  int64_t bytes() const {
    const auto bytes_for = [](int64_t size) { return Scratch::bytes_for<T>(size); };
    return 3 * bytes_for(state_size()) +
           grid.size() * (bytes_for(totals_size()) + bytes_for(z_size()) + bytes_for(x_size()) +
                          encoded_x().bytes() + encoded_h().bytes());
  }
};

// What a thread writes for itself alone.
template <class F>
struct WorkerMemory {
  using T = typename Format<F>::Value;

  WorkerMemory(const ForwardPlan<F>& plan, Scratch& scratch)
      : totals(scratch.take<T>(plan.totals_size())),
        z(scratch.take<T>(plan.z_size())),
        x(scratch.take<T>(plan.x_size())),
        encoded_x(plan.encoded_x()),
        encoded_h(plan.encoded_h()) {
    encoded_x.place(scratch.take<unsigned char>(encoded_x.bytes()));
    encoded_h.place(scratch.take<unsigned char>(encoded_h.bytes()));
  }

  T* totals;
  T* z;
  T* x;
  EncodedRows<F> encoded_x, encoded_h;
};

template <class T>
struct SharedState {
  T* h[2];  // (B, state_stride) each: h_{t-1} and h_t take turns
  T* c;     // (B, state_stride)
};

// One thread's part of a call: some rows, some blocks of units, all steps.
template <class F>
class ForwardWorker {
  using T = typename Format<F>::Value;

 public:
  ForwardWorker(const ForwardPlan<F>& plan, const SharedState<T>& state, int member,
                Barrier* row_group, const WorkerMemory<F>& memory)
      : plan_(plan),
        w_(plan.weights),
        call_(plan.call),
        state_(state),
        rows_(split(call_.shape.batch_size, plan.grid.row_groups, member / plan.grid.unit_groups)),
        blocks_(split(w_.num_blocks(), plan.grid.unit_groups, member % plan.grid.unit_groups)),
        row_group_(row_group),
        memory_(memory) {
    const int64_t lanes = w_.kernels().lanes;
    units_ = {blocks_.begin * lanes, std::min(blocks_.end * lanes, call_.shape.hidden_size)};
    step_.rows = rows_.size();
    step_.hidden_size = call_.shape.hidden_size;
    step_.block_begin = blocks_.begin;
    step_.block_end = blocks_.end;
    step_.bias = w_.bias();
    step_.totals = memory_.totals;
    step_.c = state_row(state_.c);
    step_.state_row_stride = plan_.state_stride;
    step_.output_row_stride = call_.output.batch_stride;
  }

  void run() {
    read_state(call_.h0, state_.h[0]);
    read_state(call_.c0, state_.c);
    meet();
    for (int64_t s = 0; s < call_.shape.seq_len; ++s) {
      if (plan_.chunk > 0 && s % plan_.chunk == 0) project(s);
      step(s);
      meet();
    }
    write_state(state_.h[call_.shape.seq_len % 2], call_.h);
    write_state(state_.c, call_.c);
  }

 private:
  void meet() {
    if (row_group_) row_group_->wait();
  }

  T* state_row(T* state) const { return state + rows_.begin * plan_.state_stride; }

  int64_t input_time(int64_t s) const {
    return call_.go_backwards ? call_.shape.seq_len - 1 - s : s;
  }

  // Own rows and units of an initial state, padded with zeros to whole blocks.
  void read_state(const T* from, T* to) {
    const int64_t padded_end = blocks_.end * w_.kernels().lanes;
    for (int64_t row = rows_.begin; row < rows_.end; ++row) {
      T* const out = to + row * plan_.state_stride;
      if (from) {
        std::copy(from + row * call_.shape.hidden_size + units_.begin,
                  from + row * call_.shape.hidden_size + units_.end, out + units_.begin);
      } else {
        std::fill(out + units_.begin, out + units_.end, T{0});
      }
      std::fill(out + units_.end, out + padded_end, T{0});
    }
  }

  void write_state(const T* from, T* to) const {
    for (int64_t row = rows_.begin; row < rows_.end; ++row) {
      const T* const in = from + row * plan_.state_stride;
      std::copy(in + units_.begin, in + units_.end,
                to + row * call_.shape.hidden_size + units_.begin);
    }
  }

  // Own rows of x at the steps [s, s + steps), one step's after the other's.
  Rows<F> x_rows(int64_t s, int64_t steps) {
    const int64_t size = call_.shape.input_size;
    if (!plan_.packs_x) {
      const T* const first = call_.x.at(rows_.begin, input_time(s));
      const int64_t time_stride = call_.go_backwards ? -call_.x.time_stride : call_.x.time_stride;
      if constexpr (!Format<F>::kEncodes) {
        return {first, rows_.size() > 1 ? call_.x.batch_stride : time_stride, 1, nullptr};
      }
    }
    int64_t packed = 0;
    for (int64_t i = 0; i < steps; ++i) {
      for (int64_t row = rows_.begin; row < rows_.end; ++row, ++packed) {
        const T* in = call_.x.at(row, input_time(s + i));
        if constexpr (Format<F>::kEncodes) {
          if (call_.x.feature_stride != 1) in = gather(in, memory_.x);
          memory_.encoded_x.encode(packed, in);
        } else {
          gather(in, memory_.x + packed * size);
        }
      }
    }
    if constexpr (Format<F>::kEncodes) {
      return memory_.encoded_x.rows(0);
    } else {
      return {memory_.x, size, 1, nullptr};
    }
  }

  const T* gather(const T* in, T* out) const {
    const int64_t size = call_.shape.input_size, stride = call_.x.feature_stride;
    if (stride == 1) {
      std::copy(in, in + size, out);
    } else {
      for (int64_t j = 0; j < size; ++j) out[j] = in[j * stride];
    }
    return out;
  }

  Rows<F> h_rows(const T* h) {
    if constexpr (Format<F>::kEncodes) {
      for (int64_t row = 0; row < rows_.size(); ++row) {
        memory_.encoded_h.encode(row, h + row * plan_.state_stride);
      }
      return memory_.encoded_h.rows(0);
    } else {
      return {h, plan_.state_stride, 1, nullptr};
    }
  }

  // z (steps, rows, own blocks) = x · w_ih + bias for the chunk of steps that starts at s.
  void project(int64_t s) {
    const int64_t steps = std::min(plan_.chunk, call_.shape.seq_len - s);
    const int64_t width = kNumGates * w_.kernels().lanes;
    const Rows<F> x = x_rows(s, steps);
    GemmArgs<F> gemm{};
    gemm.m = steps * rows_.size();
    gemm.n = blocks_.size() * width;
    gemm.k = call_.shape.input_size;
    gemm.a = x.data;
    gemm.a_row_stride = x.row_stride;
    gemm.a_column_stride = x.column_stride;
    gemm.panels = w_.w_ih().block(blocks_.begin);
    gemm.panel_width = width;
    gemm.bias = w_.bias() + blocks_.begin * width;
    gemm.c = memory_.z;
    gemm.c_row_stride = plan_.z_row_size();
    gemm.scales = w_.w_ih().scales(x.scales, blocks_.begin);
    w_.kernels().gemm(gemm);
  }

  StepOperand<F> operand(const Rows<F>& a, int64_t k, const GatePanels<F>& panels) const {
    return {a.data, a.row_stride, k, panels.data(), panels.scales(a.scales, 0)};
  }

  void step(int64_t s) {
    const LstmShape& shape = call_.shape;
    step_.num_operands = 0;
    if (plan_.chunk > 0) {
      // The kernel counts blocks from the first of all units, z from the first of this share.
      step_.z = memory_.z + (s % plan_.chunk) * rows_.size() * plan_.z_row_size() -
                blocks_.begin * kNumGates * w_.kernels().lanes;
      step_.z_row_stride = plan_.z_row_size();
    } else {
      step_.operands[step_.num_operands++] = operand(x_rows(s, 1), shape.input_size, w_.w_ih());
    }
    if (s > 0 || !plan_.starts_from_x) {
      const Rows<F> h = h_rows(state_row(state_.h[s % 2]));
      step_.operands[step_.num_operands++] = operand(h, shape.hidden_size, w_.w_hh());
    }
    // There and back: what a step read last is still in the cache when the next one begins.
    step_.descending = s % 2 == 1;
    step_.h = state_row(state_.h[(s + 1) % 2]);
    step_.output = call_.output ? call_.output.at(rows_.begin, s) : nullptr;
    if (call_.gates) {
      const int64_t row = s * shape.batch_size + rows_.begin;
      step_.gates = call_.gates + row * kNumGates * shape.hidden_size;
      step_.cells = call_.cells + row * shape.hidden_size;
    }
    w_.kernels().step(step_);
  }

  const ForwardPlan<F>& plan_;
  const PackedWeights<F>& w_;
  const LstmForward<T>& call_;
  const SharedState<T>& state_;
  const Range rows_, blocks_;
  Range units_;
  Barrier* const row_group_;  // null if this thread has all units of its rows
  WorkerMemory<F> memory_;
  StepArgs<F> step_{};
};

}  // namespace

template <class F>
void lstm_forward(const PackedWeights<F>& weights,
                  const LstmForward<typename Format<F>::Value>& call, int num_threads) {
  using T = typename Format<F>::Value;
  if (call.shape.batch_size == 0) return;
  Team team(multiply_adds(call.shape), num_threads);
  const ForwardPlan<F> plan(weights, call, team.size());
  Scratch scratch(plan.bytes());
  SharedState<T> state;
  state.h[0] = scratch.take<T>(plan.state_size());
  state.h[1] = scratch.take<T>(plan.state_size());
  state.c = scratch.take<T>(plan.state_size());
  const int members = plan.grid.size();
  if (members == 1) {
    ForwardWorker<F>(plan, state, 0, nullptr, WorkerMemory<F>(plan, scratch)).run();
    return;
  }
  std::deque<Barrier> row_groups;
  std::deque<ForwardWorker<F>> workers;
  for (int group = 0; group < plan.grid.row_groups; ++group) {
    Barrier& barrier = row_groups.emplace_back(plan.grid.unit_groups);
    for (int share = 0; share < plan.grid.unit_groups; ++share) {
      workers.emplace_back(plan, state, static_cast<int>(workers.size()),
                           plan.grid.unit_groups > 1 ? &barrier : nullptr,
                           WorkerMemory<F>(plan, scratch));
    }
  }
  team.run([&](int member) {
    if (member < members) workers[static_cast<std::size_t>(member)].run();
  });
}

template void lstm_forward(const PackedWeights<float>&, const LstmForward<float>&, int);
template void lstm_forward(const PackedWeights<double>&, const LstmForward<double>&, int);
template void lstm_forward(const PackedWeights<Bfloat16>&, const LstmForward<float>&, int);
template void lstm_forward(const PackedWeights<Int8>&, const LstmForward<float>&, int);

}  // namespace cpu
}  // namespace lstm_ext
