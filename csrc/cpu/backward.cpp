#include <algorithm>
#include <deque>
#include <optional>

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

template <class T>
class BackwardRun {
 public:
  BackwardRun(const BackwardTask<T>& task, int loop_threads, int product_threads)
      : plan_(task, loop_threads, product_threads) {}
  BackwardRun(const BackwardRun&) = delete;
  BackwardRun& operator=(const BackwardRun&) = delete;

  const BackwardPlan<T>& plan() const { return plan_; }
  int64_t bytes() const { return plan_.loop_bytes() + plan_.threads * plan_.product_bytes(); }

  void prepare(Scratch& scratch) {
    state_.emplace(plan_, scratch);
    for (int member = 0; member < plan_.threads; ++member) memory_.emplace_back(plan_, scratch);
    for (int group = 0; group < plan_.grid.row_groups; ++group) {
      row_groups_.emplace_back(plan_.grid.unit_groups);
    }
  }

  void loop(int member) {
    if (plan_.batch_size() == 0) return;
    Barrier& group = row_groups_[static_cast<std::size_t>(member / plan_.grid.unit_groups)];
    TimeLoop<T>(plan_, *state_, member, plan_.grid.unit_groups > 1 ? &group : nullptr).run();
  }

  void products(int member) const {
    const ProductMemory<T>& memory = memory_[static_cast<std::size_t>(member)];
    gate_weight_gradients(plan_, member, memory);
    if (plan_.projects) projection_gradient(plan_, state_->d_projected, member, memory);
    if (plan_.call.d_peephole) {
      const T* const c0 = state_->c0 ? state_->c0 : plan_.call.c0;
      peephole_gradient(plan_, c0, member, memory);
    }
    if (plan_.call.d_x && plan_.batch_size() > 0) input_gradient(plan_, member, memory);
  }

 private:
  const BackwardPlan<T> plan_;
  std::optional<BackwardState<T>> state_;
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
  const int loop_threads = together ? team.size() / count : team.size();
  std::deque<BackwardRun<T>> runs;
  int64_t bytes = 0;
  int members = 0;
  for (const BackwardTask<T>& task : tasks) {
    bytes += runs.emplace_back(task, loop_threads, team.size()).bytes();
    const int size = runs.back().plan().grid.size();
    members = together ? members + size : std::max(members, size);
  }
  Scratch scratch(bytes);
  for (BackwardRun<T>& run : runs) run.prepare(scratch);
  const auto loops = [&](int member) {
    for (BackwardRun<T>& run : runs) {
      const int size = run.plan().grid.size();
      if (member < size) run.loop(member);
      if (together) {
        if (member < size) return;
        member -= size;
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
  lstm_backward<T>({{&weights, call}}, num_threads);
}

#define LSTM_EXT_INSTANTIATE(T)                                          \
  template void lstm_backward(const std::vector<BackwardTask<T>>&, int); \
  template void lstm_backward(const PackedWeights<T>&, const LstmBackward<T>&, int)
LSTM_EXT_INSTANTIATE(float);
LSTM_EXT_INSTANTIATE(double);
#undef LSTM_EXT_INSTANTIATE

}  // namespace cpu
}  // namespace lstm_ext
