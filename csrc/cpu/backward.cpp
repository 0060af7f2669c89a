#include <algorithm>
#include <deque>

#include "cpu/buffer.hpp"
#include "cpu/drivers.hpp"
#include "cpu/finite.hpp"
#include "cpu/gemm.hpp"
#include "cpu/partition.hpp"
#include "cpu/threads.hpp"

// Three phases. The time loop walks back through the steps and leaves the gradients of z in
// d_gates; the gradients of the weights and of x are then products over the whole sequence:
//
//   d_h_{t-1} = d_z_t · w_hhᵀ                                  in the loop
//   d_w_ih = Σ_t x_tᵀ·d_z_t   d_w_hh = Σ_t h_{t-1}ᵀ·d_z_t   d_bias = Σ_t d_z_t
//   d_x_t = d_z_t · w_ihᵀ

namespace lstm_ext {
namespace cpu {
namespace {

template <class T>
struct BackwardPlan {
  const PackedWeights<T>& weights;
  const LstmBackward<T>& call;
  int threads;
  ThreadGrid grid;  // of the time loop
  int64_t state_stride;
  int64_t x_stride, h_stride;     // of the rows gathered for the weights' gradients
  int64_t panel_width;            // of d_gates as the right-hand side
  int64_t recurrent_panel_width;  // of w_hhᵀ, whose panels are the shares of the units

  BackwardPlan(const PackedWeights<T>& w, const LstmBackward<T>& c, int team_size)
      : weights(w), call(c), threads(team_size) {
    const LstmShape& s = c.shape;
    constexpr int64_t kLine = kCacheLine / sizeof(T);
    const auto padded = [](int64_t n) { return round_up(n, kLine) + kLine; };
    recurrent_panel_width = panel_width_for(w.kernels(), s.hidden_size);
    grid = thread_grid(threads, s.batch_size, divide_up(s.hidden_size, recurrent_panel_width),
                       s.hidden_size, sizeof(T));
    state_stride = padded(s.hidden_size);
    x_stride = padded(s.input_size);
    h_stride = padded(s.hidden_size);
    panel_width = panel_width_for(w.kernels(), gate_columns());
  }

  // One step without a state before it needs no gradient of h, nor w_hhᵀ, which is costly to make.
  static bool recurs(const LstmBackward<T>& call) {
    return call.shape.seq_len > 1 || call.d_h0 != nullptr;
  }

  int64_t gate_columns() const { return kNumGates * call.shape.hidden_size; }
  int64_t state_size() const { return call.shape.batch_size * state_stride; }
  int64_t gathered_size() const { return Format<T>::kDepthBlock * (x_stride + h_stride); }
  int64_t panel_size() const { return Format<T>::kDepthBlock * panel_width; }
  int64_t bytes() const {
    const auto bytes_for = [](int64_t size) { return Scratch::bytes_for<T>(size); };
    return 2 * bytes_for(state_size()) +
           threads * (bytes_for(gathered_size()) + bytes_for(panel_size()));
  }
  int64_t input_time(int64_t s) const { return call.go_backwards ? call.shape.seq_len - 1 - s : s; }
};

// One thread's part of the time loop.
template <class T>
class TimeLoop {
 public:
  TimeLoop(const BackwardPlan<T>& plan, T* d_h, T* d_c, int member, Barrier* row_group)
      : plan_(plan),
        call_(plan.call),
        kernels_(plan.weights.kernels()),
        panels_(BackwardPlan<T>::recurs(call_) ? plan.weights.w_hh_transposed().panels : nullptr),
        d_h_(d_h),
        d_c_(d_c),
        rows_(split(call_.shape.batch_size, plan.grid.row_groups, member / plan.grid.unit_groups)),
        row_group_(row_group) {
    const int64_t hidden = call_.shape.hidden_size, width = plan.recurrent_panel_width;
    const Range panels =
        split(divide_up(hidden, width), plan.grid.unit_groups, member % plan.grid.unit_groups);
    units_ = {panels.begin * width, std::min(panels.end * width, hidden)};
  }

  void run() {
    read_state(call_.d_h, d_h_);
    read_state(call_.d_c, d_c_);
    for (int64_t s = call_.shape.seq_len - 1; s >= 0; --s) {
      elementwise(s);
      if (row_group_) row_group_->wait();
      if (s > 0 || call_.d_h0) recur(s);
    }
    if (call_.d_h0) write_state(d_h_, call_.d_h0);
    if (call_.d_c0) write_state(d_c_, call_.d_c0);
  }

 private:
  T* state_at(T* state, int64_t row) const { return state + row * plan_.state_stride; }

  void read_state(const T* from, T* to) const {
    for (int64_t row = rows_.begin; row < rows_.end; ++row) {
      T* const out = state_at(to, row);
      if (from) {
        const T* const in = from + row * call_.shape.hidden_size;
        std::copy(in + units_.begin, in + units_.end, out + units_.begin);
      } else {
        std::fill(out + units_.begin, out + units_.end, T{0});
      }
    }
  }

  void write_state(T* from, T* to) const {
    for (int64_t row = rows_.begin; row < rows_.end; ++row) {
      const T* const in = state_at(from, row);
      std::copy(in + units_.begin, in + units_.end,
                to + row * call_.shape.hidden_size + units_.begin);
    }
  }

  void elementwise(int64_t s) const {
    const LstmShape& shape = call_.shape;
    const int64_t row = s * shape.batch_size + rows_.begin;
    const int64_t hidden = shape.hidden_size;
    CellBackwardArgs<T> args{};
    args.rows = rows_.size();
    args.hidden_size = hidden;
    args.unit_begin = units_.begin;
    args.unit_end = units_.end;
    args.gates = call_.gates + row * plan_.gate_columns();
    args.cells = call_.cells + row * hidden;
    args.c_prev = s > 0      ? call_.cells + (row - shape.batch_size) * hidden
                  : call_.c0 ? call_.c0 + rows_.begin * hidden
                             : nullptr;
    args.d_output = call_.d_output ? call_.d_output.at(rows_.begin, s) : nullptr;
    args.d_output_row_stride = call_.d_output.batch_stride;
    args.d_h = state_at(d_h_, rows_.begin);
    args.d_c = state_at(d_c_, rows_.begin);
    args.d_state_row_stride = plan_.state_stride;
    args.d_gates = call_.d_gates + row * plan_.gate_columns();
    kernels_.cell_backward(args);
  }

  // d_h = d_z_s · w_hhᵀ for own rows and units.
  void recur(int64_t s) const {
    const int64_t row = s * call_.shape.batch_size + rows_.begin;
    GemmArgs<T> gemm{};
    gemm.m = rows_.size();
    gemm.n = units_.size();
    gemm.k = plan_.gate_columns();
    gemm.a = call_.d_gates + row * gemm.k;
    gemm.a_row_stride = gemm.k;
    gemm.a_column_stride = 1;
    gemm.panels = panels_ + units_.begin * gemm.k;
    gemm.panel_width = plan_.recurrent_panel_width;
    gemm.c = state_at(d_h_, rows_.begin) + units_.begin;
    gemm.c_row_stride = plan_.state_stride;
    gemm.descending = s % 2 == 1;  // there and back, as in the forward pass
    kernels_.gemm(gemm);
  }

  const BackwardPlan<T>& plan_;
  const LstmBackward<T>& call_;
  const KernelTable<T>& kernels_;
  const T* const panels_;  // w_hhᵀ, or null if it is not needed
  T* const d_h_;           // (B, state_stride)
  T* const d_c_;           // (B, state_stride)
  const Range rows_;
  Range units_;
  Barrier* const row_group_;
};

// Sets the columns of some panels of c (rows, columns) to zero.
template <class T>
void zero_columns(T* c, int64_t rows, int64_t columns, int64_t width, const Range& panels) {
  const int64_t begin = panels.begin * width, end = std::min(panels.end * width, columns);
  for (int64_t row = 0; row < rows; ++row) {
    std::fill(c + row * columns + begin, c + row * columns + end, T{0});
  }
}

// The gradients of the parameters, for the columns of one thread. `gathered` and `panel` are its
// scratch. The sum over (step, row) is cut into blocks of kDepthBlock like every other.
template <class T>
void parameter_gradients(const BackwardPlan<T>& plan, int member, T* gathered, T* panel) {
  const LstmBackward<T>& call = plan.call;
  const LstmShape& shape = call.shape;
  const int64_t columns = plan.gate_columns(), width = plan.panel_width;
  const Range panels = split(divide_up(columns, width), plan.threads, member);
  const int64_t total_depth = shape.seq_len * shape.batch_size;
  T* const x_rows = gathered;
  T* const h_rows = gathered + Format<T>::kDepthBlock * plan.x_stride;
  const T one = T{1};
  // A single step from no state: its h is zero, and so is the gradient of w_hh.
  const bool h_is_zero = shape.seq_len == 1 && call.h0 == nullptr &&
                         all_finite(call.d_gates, shape.batch_size * columns);
  if (h_is_zero) zero_columns(call.d_w_hh, shape.hidden_size, columns, width, panels);
  int64_t k0 = 0;
  do {
    const int64_t depth = std::min(Format<T>::kDepthBlock, total_depth - k0);
    for (int64_t p = 0; p < depth && panels.size() > 0; ++p) {
      const int64_t s = (k0 + p) / shape.batch_size, row = (k0 + p) % shape.batch_size;
      const T* const x = call.x.at(row, plan.input_time(s));
      T* const x_row = x_rows + p * plan.x_stride;
      for (int64_t j = 0; j < shape.input_size; ++j) x_row[j] = x[j * call.x.feature_stride];
      T* const h_row = h_rows + p * plan.h_stride;
      if (h_is_zero) continue;
      if (s > 0 || call.h0) {
        const T* const h = s > 0 ? call.output.at(row, s - 1) : call.h0 + row * shape.hidden_size;
        const int64_t stride = s > 0 ? call.output.feature_stride : 1;
        for (int64_t j = 0; j < shape.hidden_size; ++j) h_row[j] = h[j * stride];
      } else {
        std::fill(h_row, h_row + shape.hidden_size, T{0});
      }
    }
    const Matrix<const T> d_z = {call.d_gates + k0 * columns, depth, columns, columns, 1};
    for (int64_t index = panels.begin; index < panels.end; ++index) {
      const int64_t begin = index * width, end = std::min(begin + width, columns);
      pack_panels(d_z, begin, end, width, panel);
      const auto accumulate = [&](int64_t m, const T* a, int64_t row_stride, int64_t column_stride,
                                  T* c) {
        plan.weights.kernels().gemm({m, end - begin, depth, a, row_stride, column_stride, panel,
                                     width, nullptr, c + begin, columns, k0 > 0});
      };
      accumulate(shape.input_size, x_rows, 1, plan.x_stride, call.d_w_ih);
      if (!h_is_zero) accumulate(shape.hidden_size, h_rows, 1, plan.h_stride, call.d_w_hh);
      if (call.d_bias) accumulate(1, &one, 0, 0, call.d_bias);
    }
    k0 += Format<T>::kDepthBlock;
  } while (k0 < total_depth);
}

// d_x, for one thread's part of the steps or of the rows. The longer of the two axes makes the rows
// of the products, the shorter one is looped over.
template <class T>
void input_gradient(const BackwardPlan<T>& plan, int member) {
  const LstmBackward<T>& call = plan.call;
  const LstmShape& shape = call.shape;
  const auto w = plan.weights.w_ih_transposed();
  GemmArgs<T> gemm{};
  gemm.n = shape.input_size;
  gemm.k = plan.gate_columns();
  gemm.a_column_stride = 1;
  gemm.panels = w.panels;
  gemm.panel_width = w.panel_width;
  const bool steps_are_rows = shape.seq_len > shape.batch_size;
  const Range inner = split(std::max(shape.seq_len, shape.batch_size), plan.threads, member);
  const int64_t outer = std::min(shape.seq_len, shape.batch_size);
  if (inner.size() == 0) return;
  gemm.m = inner.size();
  for (int64_t i = 0; i < outer; ++i) {
    const int64_t s = steps_are_rows ? inner.begin : i;
    const int64_t row = steps_are_rows ? i : inner.begin;
    gemm.a = call.d_gates + (s * shape.batch_size + row) * gemm.k;
    gemm.a_row_stride = steps_are_rows ? shape.batch_size * gemm.k : gemm.k;
    gemm.c = call.d_x.at(row, plan.input_time(s));
    gemm.c_row_stride = !steps_are_rows     ? call.d_x.batch_stride
                        : call.go_backwards ? -call.d_x.time_stride
                                            : call.d_x.time_stride;
    plan.weights.kernels().gemm(gemm);
  }
}

}  // namespace

template <class T>
void lstm_backward(const PackedWeights<T>& weights, const LstmBackward<T>& call, int num_threads) {
  // Made by a team of their own if they are not there yet.
  if (BackwardPlan<T>::recurs(call)) weights.w_hh_transposed();
  if (call.d_x) weights.w_ih_transposed();
  Team team(2 * multiply_adds(call.shape), num_threads);
  const BackwardPlan<T> plan(weights, call, team.size());
  Scratch scratch(plan.bytes());
  T* const d_h = scratch.take<T>(plan.state_size());
  T* const d_c = scratch.take<T>(plan.state_size());
  std::deque<Barrier> row_groups;
  for (int group = 0; group < plan.grid.row_groups; ++group) {
    row_groups.emplace_back(plan.grid.unit_groups);
  }
  struct Space {
    T *gathered, *panel;
  };
  std::deque<Space> spaces;
  for (int member = 0; member < team.size(); ++member) {
    T* const gathered = scratch.take<T>(plan.gathered_size());
    spaces.push_back({gathered, scratch.take<T>(plan.panel_size())});
  }
  const auto run_loop = [&](int member) {
    if (member >= plan.grid.size() || call.shape.batch_size == 0) return;
    Barrier& group = row_groups[static_cast<std::size_t>(member / plan.grid.unit_groups)];
    TimeLoop<T>(plan, d_h, d_c, member, plan.grid.unit_groups > 1 ? &group : nullptr).run();
  };
  const bool alone = plan.grid.size() == 1;
  if (alone) run_loop(0);
  Barrier loop_done(team.size());
  team.run([&](int member) {
    if (!alone) {
      run_loop(member);
      loop_done.wait();
    }
    const Space& space = spaces[static_cast<std::size_t>(member)];
    parameter_gradients(plan, member, space.gathered, space.panel);
    if (call.d_x && call.shape.batch_size > 0) input_gradient(plan, member);
  });
}

template void lstm_backward(const PackedWeights<float>&, const LstmBackward<float>&, int);
template void lstm_backward(const PackedWeights<double>&, const LstmBackward<double>&, int);

}  // namespace cpu
}  // namespace lstm_ext
