#include <algorithm>
#include <deque>

#include "cpu/buffer.hpp"
#include "cpu/drivers.hpp"
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
template <class T>
struct ForwardPlan {
  const PackedWeights<T>& weights;
  const LstmForward<T>& call;
  ThreadGrid grid;
  int64_t max_rows;    // of a row group
  int64_t max_blocks;  // of a unit share
  int64_t chunk;       // steps whose input is projected at once; 0: fused
  bool packs_x;        // rows of x are gathered before they are multiplied
  bool starts_from_x;  // the first step leaves out the product of its h, which is zero
  int64_t state_stride;

  ForwardPlan(const PackedWeights<T>& w, const LstmForward<T>& c, int threads)
      : weights(w), call(c) {
    const LstmShape& s = c.shape;
    grid = thread_grid(threads, s.batch_size, w.num_blocks(),
                       s.hidden_size * kNumGates * s.hidden_size * int64_t{sizeof(T)});
    max_rows = divide_up(s.batch_size, grid.row_groups);
    max_blocks = divide_up(w.num_blocks(), grid.unit_groups);
    constexpr int64_t kRowsThatReuseWeights = 12;
    constexpr int64_t kChunkBytes = 256 << 10;
    constexpr int64_t kSharedCache = 16 << 20, kLargeChunk = 4;
    chunk = 0;
    const int64_t input_bytes = s.input_size * kNumGates * s.hidden_size * int64_t{sizeof(T)};
    if (max_rows < kRowsThatReuseWeights) {
      const int64_t step_bytes = max_rows * z_row_size() * int64_t{sizeof(T)};
      chunk = std::max<int64_t>(1, kChunkBytes / step_bytes);
    } else if (input_bytes > kSharedCache) {
      chunk = kLargeChunk;  // the weights come from memory: read them once for several steps
    }
    chunk = s.seq_len > 1 ? std::min(s.seq_len, chunk) : 0;
    starts_from_x = chunk == 0 && c.h0 == nullptr && w.w_hh_is_finite();
    packs_x = c.x.feature_stride != 1 || (chunk > 0 && max_rows > 1);
    // A power-of-two distance would put all rows of h into the same sets of the cache.
    state_stride = w.padded_units() + (s.batch_size > 1 ? int64_t{kCacheLine / sizeof(T)} : 0);
  }

  int64_t z_row_size() const { return max_blocks * kNumGates * weights.kernels().lanes; }
  int64_t state_size() const { return call.shape.batch_size * state_stride; }
  int64_t totals_size() const { return max_rows * kNumGates * weights.kernels().lanes; }
  int64_t z_size() const { return chunk * max_rows * z_row_size(); }
  int64_t x_size() const {
    return packs_x ? std::max<int64_t>(1, chunk) * max_rows * call.shape.input_size : 0;
  }
  int64_t bytes() const {
    const auto bytes_for = [](int64_t size) { return Scratch::bytes_for<T>(size); };
    return 3 * bytes_for(state_size()) +
           grid.size() * (bytes_for(totals_size()) + bytes_for(z_size()) + bytes_for(x_size()));
  }
};

template <class T>
struct SharedState {
  T* h[2];  // (B, state_stride) each: h_{t-1} and h_t take turns
  T* c;     // (B, state_stride)
};

// One thread's part of a call: some rows, some blocks of units, all steps.
template <class T>
class ForwardWorker {
 public:
  ForwardWorker(const ForwardPlan<T>& plan, const SharedState<T>& state, int member,
                Barrier* row_group, T* totals, T* z, T* x)
      : plan_(plan),
        w_(plan.weights),
        call_(plan.call),
        state_(state),
        rows_(split(call_.shape.batch_size, plan.grid.row_groups, member / plan.grid.unit_groups)),
        blocks_(split(w_.num_blocks(), plan.grid.unit_groups, member % plan.grid.unit_groups)),
        row_group_(row_group),
        z_(z),
        x_(x) {
    const int64_t lanes = w_.kernels().lanes;
    units_ = {blocks_.begin * lanes, std::min(blocks_.end * lanes, call_.shape.hidden_size)};
    step_.rows = rows_.size();
    step_.hidden_size = call_.shape.hidden_size;
    step_.block_begin = blocks_.begin;
    step_.block_end = blocks_.end;
    step_.bias = w_.bias();
    step_.totals = totals;
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

  // Rows of x at the steps [s, s + steps), gathered into x_ (steps, rows, I).
  void gather_x(int64_t s, int64_t steps) {
    const int64_t size = call_.shape.input_size;
    T* out = x_;
    for (int64_t i = 0; i < steps; ++i) {
      for (int64_t row = rows_.begin; row < rows_.end; ++row, out += size) {
        const T* const in = call_.x.at(row, input_time(s + i));
        if (call_.x.feature_stride == 1) {
          std::copy(in, in + size, out);
        } else {
          for (int64_t j = 0; j < size; ++j) out[j] = in[j * call_.x.feature_stride];
        }
      }
    }
  }

  // z_ (steps, rows, own blocks) = x · w_ih + bias for the chunk of steps that starts at s.
  void project(int64_t s) {
    const int64_t steps = std::min(plan_.chunk, call_.shape.seq_len - s);
    const int64_t width = kNumGates * w_.kernels().lanes;
    GemmArgs<T> gemm{};
    gemm.m = steps * rows_.size();
    gemm.n = blocks_.size() * width;
    gemm.k = call_.shape.input_size;
    if (plan_.packs_x) {
      gather_x(s, steps);
      gemm.a = x_;
      gemm.a_row_stride = gemm.k;
    } else {
      gemm.a = call_.x.at(rows_.begin, input_time(s));
      gemm.a_row_stride = call_.go_backwards ? -call_.x.time_stride : call_.x.time_stride;
    }
    gemm.a_column_stride = 1;
    gemm.panels = w_.w_ih() + blocks_.begin * width * gemm.k;
    gemm.panel_width = width;
    gemm.bias = w_.bias() + blocks_.begin * width;
    gemm.c = z_;
    gemm.c_row_stride = plan_.z_row_size();
    w_.kernels().gemm(gemm);
  }

  void step(int64_t s) {
    const LstmShape& shape = call_.shape;
    const StepOperand<T> recurrent = {state_row(state_.h[s % 2]), plan_.state_stride,
                                      shape.hidden_size, w_.w_hh()};
    if (plan_.chunk > 0) {
      // The kernel counts blocks from the first of all units, z_ from the first of this share.
      step_.z = z_ + (s % plan_.chunk) * rows_.size() * plan_.z_row_size() -
                blocks_.begin * kNumGates * w_.kernels().lanes;
      step_.z_row_stride = plan_.z_row_size();
      step_.num_operands = 1;
      step_.operands[0] = recurrent;
    } else {
      if (plan_.packs_x) gather_x(s, 1);
      step_.z = nullptr;
      step_.num_operands = s == 0 && plan_.starts_from_x ? 1 : 2;
      step_.operands[0] = {plan_.packs_x ? x_ : call_.x.at(rows_.begin, input_time(s)),
                           plan_.packs_x ? shape.input_size : call_.x.batch_stride,
                           shape.input_size, w_.w_ih()};
      step_.operands[1] = recurrent;
    }
    step_.h = state_row(state_.h[(s + 1) % 2]);
    step_.output = call_.output ? call_.output.at(rows_.begin, s) : nullptr;
    if (call_.gates) {
      const int64_t row = s * shape.batch_size + rows_.begin;
      step_.gates = call_.gates + row * kNumGates * shape.hidden_size;
      step_.cells = call_.cells + row * shape.hidden_size;
    }
    w_.kernels().step(step_);
  }

  const ForwardPlan<T>& plan_;
  const PackedWeights<T>& w_;
  const LstmForward<T>& call_;
  const SharedState<T>& state_;
  const Range rows_, blocks_;
  Range units_;
  Barrier* const row_group_;  // null if this thread has all units of its rows
  T* const z_;
  T* const x_;
  StepArgs<T> step_{};
};

}  // namespace

template <class T>
void lstm_forward(const PackedWeights<T>& weights, const LstmForward<T>& call, int num_threads) {
  if (call.shape.batch_size == 0) return;
  Team team(multiply_adds(call.shape), num_threads);
  const ForwardPlan<T> plan(weights, call, team.size());
  Scratch scratch(plan.bytes());
  SharedState<T> state;
  state.h[0] = scratch.take<T>(plan.state_size());
  state.h[1] = scratch.take<T>(plan.state_size());
  state.c = scratch.take<T>(plan.state_size());
  const int members = plan.grid.size();
  if (members == 1) {
    T* const totals = scratch.take<T>(plan.totals_size());
    T* const z = scratch.take<T>(plan.z_size());
    ForwardWorker<T>(plan, state, 0, nullptr, totals, z, scratch.take<T>(plan.x_size())).run();
    return;
  }
  std::deque<Barrier> row_groups;
  std::deque<ForwardWorker<T>> workers;
  for (int group = 0; group < plan.grid.row_groups; ++group) {
    Barrier& barrier = row_groups.emplace_back(plan.grid.unit_groups);
    for (int share = 0; share < plan.grid.unit_groups; ++share) {
      T* const totals = scratch.take<T>(plan.totals_size());
      T* const z = scratch.take<T>(plan.z_size());
      T* const x = scratch.take<T>(plan.x_size());
      workers.emplace_back(plan, state, static_cast<int>(workers.size()),
                           plan.grid.unit_groups > 1 ? &barrier : nullptr, totals, z, x);
    }
  }
  team.run([&](int member) {
    if (member < members) workers[static_cast<std::size_t>(member)].run();
  });
}

template void lstm_forward(const PackedWeights<float>&, const LstmForward<float>&, int);
template void lstm_forward(const PackedWeights<double>&, const LstmForward<double>&, int);

}  // namespace cpu
}  // namespace lstm_ext
