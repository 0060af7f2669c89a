#include <algorithm>
#include <deque>

#include "cpu/drivers.hpp"
// What a pass is made of, in its order.
#include "cpu/backward_loop.hpp"
#include "cpu/backward_plan.hpp"
#include "cpu/backward_products.hpp"
#include "cpu/threads.hpp"

// Two phases. The time loop walks back through the steps and leaves the gradients of z in d_gates,
// with d_h_{t-1} = d_z_t · w_hhᵀ; the gradients of the weights and of x are then products over the
// whole sequence.

namespace lstm_ext {
namespace cpu {
namespace {

// All products of a call, one thread's part of each.
template <class T>
void run_products(const BackwardPlan<T>& plan, const BackwardState<T>& state,
                  const ProductMemory<T>& memory, int member) {
  const GateGradients<T> d_z = gate_gradients(plan, state.d_normed);
  gate_weight_gradients(plan, d_z, member, memory);
  if (plan.weights.has_norm()) norm_gradient(plan, state.d_normed, member, memory);
  if (plan.projects) projection_gradient(plan, state.d_projected, member, memory);
  if (plan.call.d_peephole) {
    peephole_gradient(plan, state.c0 ? state.c0 : plan.call.c0, member, memory);
  }
  if (plan.call.d_x && plan.batch_size() > 0) input_gradient(plan, d_z, member, memory);
}

// A call on its way, and the memory of its threads.
template <class T>
class BackwardRun {
 public:
  BackwardRun(const BackwardPlan<T>& plan, Scratch& scratch) : plan_(plan), state_(plan, scratch) {
    for (int member = 0; member < plan.threads; ++member) memory_.emplace_back(plan, scratch);
    for (int group = 0; group < plan.grid.row_groups; ++group) {
      row_groups_.emplace_back(plan.grid.unit_groups);
    }
  }
  BackwardRun(const BackwardRun&) = delete;
  BackwardRun& operator=(const BackwardRun&) = delete;

  int size() const { return plan_.grid.size(); }

  void loop(int member) {
    if (plan_.batch_size() == 0) return;
    Barrier& group = row_groups_[static_cast<std::size_t>(member / plan_.grid.unit_groups)];
    TimeLoop<T>(plan_, state_, member, plan_.grid.unit_groups > 1 ? &group : nullptr).run();
  }
  void products(int member) const {
    run_products(plan_, state_, memory_[static_cast<std::size_t>(member)], member);
  }

 private:
  const BackwardPlan<T>& plan_;
  const BackwardState<T> state_;
  std::deque<ProductMemory<T>> memory_;
  std::deque<Barrier> row_groups_;
};

// Transposes are made by a team of their own if they are not there yet.
template <class T>
void transpose_weights(const BackwardTask<T>& task) {
  if (BackwardPlan<T>::recurs(task.call)) task.weights->w_hh_transposed();
  if (task.call.d_x) task.weights->w_ih_transposed();
  if (task.weights->projection_size() > 0) task.weights->w_hr_transposed();
}

}  // namespace

template <class T>
void lstm_backward(const std::vector<BackwardTask<T>>& tasks, int num_threads) {
  int64_t work = 0;
  for (const BackwardTask<T>& task : tasks) {
    transpose_weights(task);
    work += 2 * multiply_adds(task.call.shape);
  }
  Team team(work, num_threads);
  // The loops run side by side where there are threads for it; the products share all threads.
  const auto count = static_cast<int>(tasks.size());
  const bool together = count > 1 && team.size() >= count;
  std::deque<BackwardPlan<T>> plans;
  int64_t bytes = 0;
  for (const BackwardTask<T>& task : tasks) {
    plans.emplace_back(task, together ? team.size() / count : team.size(), team.size());
    bytes += plans.back().bytes();
  }
  Scratch scratch(bytes);
  std::deque<BackwardRun<T>> runs;
  int members = 0;
  for (const BackwardPlan<T>& plan : plans) {
    const int size = runs.emplace_back(plan, scratch).size();
    members = together ? members + size : std::max(members, size);
  }
  const auto loops = [&](int member) {
    for (BackwardRun<T>& run : runs) {
      if (member < run.size()) run.loop(member);
      if (together) {
        if (member < run.size()) return;
        member -= run.size();
      }
    }
  };
  const bool alone = members == 1;
  if (alone) loops(0);
  Barrier all(team.size());
  team.run([&](int member) {
    if (!alone) loops(member);
    for (const BackwardRun<T>& run : runs) {
      all.wait();  // for the loops, and for the d_x that a later call adds to
      run.products(member);
    }
  });
}

template <class T>
void lstm_backward(const PackedWeights<T>& weights, const LstmBackward<T>& call, int num_threads) {
  const BackwardTask<T> task{&weights, call};
  if (threads_worth(2 * multiply_adds(call.shape)) > 1) {
    return lstm_backward<T>(std::vector<BackwardTask<T>>{task}, num_threads);
  }
  // On one thread, without lists of anything, for the shortest calls.
  transpose_weights(task);
  const BackwardPlan<T> plan(task, 1, 1);
  Scratch scratch(plan.bytes());
  const BackwardState<T> state(plan, scratch);
  const ProductMemory<T> memory(plan, scratch);
  if (plan.batch_size() > 0) TimeLoop<T>(plan, state, 0, nullptr).run();
  run_products(plan, state, memory, 0);
}

#define LSTM_EXT_INSTANTIATE(T)                                          \
  template void lstm_backward(const std::vector<BackwardTask<T>>&, int); \
  template void lstm_backward(const PackedWeights<T>&, const LstmBackward<T>&, int)
LSTM_EXT_INSTANTIATE(float);
LSTM_EXT_INSTANTIATE(double);
#undef LSTM_EXT_INSTANTIATE

}  // namespace cpu
}  // namespace lstm_ext
