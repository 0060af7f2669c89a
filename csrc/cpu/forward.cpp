#include <deque>
#include <limits>

#include "cpu/drivers.hpp"
#include "cpu/forward_plan.hpp"
#include "cpu/forward_worker.hpp"

namespace lstm_ext {
namespace cpu {
namespace {

constexpr int64_t kAllSteps = std::numeric_limits<int64_t>::max();

// The workers of a call.
template <class F>
class ForwardRun {
  using T = typename Format<F>::Value;

 public:
  ForwardRun(const ForwardPlan<F>& plan, Scratch& scratch, const Progress* input,
             bool tells_progress)
      : plan_(plan) {
    const SharedState<T> state(plan_, scratch);
    for (int group = 0; group < plan.grid.row_groups; ++group) {
      T* const z = scratch.take<T>(plan_.z_size());
      RowGroup* const members =
          plan_.grid.unit_groups > 1
              ? &row_groups_.emplace_back(plan_.grid.unit_groups, plan_.num_pieces())
              : nullptr;
      for (int share = 0; share < plan_.grid.unit_groups; ++share) {
        const Company company{members, input, tells_progress && share == 0 ? &progress_ : nullptr,
                              nullptr};
        workers_.emplace_back(plan_, state, static_cast<int>(workers_.size()), company,
                              WorkerMemory<F>(plan_, scratch, z));
      }
    }
  }
  ForwardRun(const ForwardRun&) = delete;
  ForwardRun& operator=(const ForwardRun&) = delete;

  int size() const { return plan_.grid.size(); }
  const Progress* progress() const { return &progress_; }
  void run(int member) { workers_[static_cast<std::size_t>(member)].run(); }

 private:
  const ForwardPlan<F>& plan_;
  Progress progress_;
  std::deque<RowGroup> row_groups_;
  std::deque<ForwardWorker<F>> workers_;
};

// One call with the whole team.
template <class F>
void run_alone(Team& team, const ForwardTask<F>& task) {
  using T = typename Format<F>::Value;
  if (task.call.shape.batch_size == 0) return;
  const ForwardPlan<F> plan(*task.weights, task.call, team.size(), kAllSteps, true);
  Scratch scratch(plan.bytes());
  if (plan.grid.size() == 1) {  // without a list of workers, for the shortest calls
    const SharedState<T> state(plan, scratch);
    T* const z = scratch.take<T>(plan.z_size());
    const Company company{nullptr, nullptr, nullptr, &team};
    ForwardWorker<F>(plan, state, 0, company, WorkerMemory<F>(plan, scratch, z)).run();
    return;
  }
  ForwardRun<F> run(plan, scratch, nullptr, false);
  team.run([&](int member) {
    if (member < run.size()) run.run(member);
  });
}

// Whether calls gain by threads of their own, rather than one after the other with all threads.
// Chained ones wait for each other's first steps: with rows for all threads they gain nothing.
template <class F>
bool worth_own_threads(const std::vector<ForwardTask<F>>& tasks, bool chained, int threads) {
  for (const ForwardTask<F>& task : tasks) {
    const LstmShape& s = task.call.shape;
    const ThreadGrid grid =
        thread_grid(threads, s.batch_size, task.weights->num_blocks(), s.hidden_size,
                    ForwardPlan<F>::kWeightBytes, task.weights->kernels().rows_at_once);
    if (chained && grid.row_groups > 1) return false;
    if (grid.unit_groups > 1 &&
        !worth_a_whole_call(s.batch_size, s.hidden_size, ForwardPlan<F>::kWeightBytes, chained)) {
      return false;
    }
  }
  return true;
}

// Calls side by side, each with an equal part of the team.
template <class F>
void run_together(Team& team, const std::vector<ForwardTask<F>>& tasks, bool chained) {
  constexpr int64_t kShares = 16;  // of a sequence, that are waited for one by one
  const int each = team.size() / static_cast<int>(tasks.size());
  std::deque<ForwardPlan<F>> plans;
  int64_t bytes = 0;
  for (const ForwardTask<F>& task : tasks) {
    const int64_t share = std::max<int64_t>(1, task.call.shape.seq_len / kShares);
    plans.emplace_back(*task.weights, task.call, each, chained ? share : kAllSteps, false);
    bytes += plans.back().bytes();
  }
  Scratch scratch(bytes);
  std::deque<ForwardRun<F>> runs;
  for (const ForwardPlan<F>& plan : plans) {
    const Progress* const input = chained && !runs.empty() ? runs.back().progress() : nullptr;
    runs.emplace_back(plan, scratch, input, chained);
  }
  team.run([&](int member) {
    for (ForwardRun<F>& run : runs) {
      if (member < run.size()) return run.run(member);
      member -= run.size();
    }
  });
}

// For each thread: weights that are smaller take less time to read and to multiply.
template <class F>
constexpr int64_t kLeastWork =
    kMinWorkPerThread * int64_t{sizeof(float)} / int64_t{sizeof(typename Format<F>::Weight)};

}  // namespace

template <class F>
void lstm_forward(const std::vector<ForwardTask<F>>& tasks, bool chained, int num_threads) {
  int64_t work = 0;
  for (const ForwardTask<F>& task : tasks) work += multiply_adds(task.call.shape);
  Team team(work, num_threads, kLeastWork<F>);
  const auto count = static_cast<int>(tasks.size());
  const bool together = count > 1 && team.size() >= count &&
                        tasks.front().call.shape.batch_size > 0 &&
                        worth_own_threads(tasks, chained, team.size());
  if (together) return run_together(team, tasks, chained);
  for (const ForwardTask<F>& task : tasks) run_alone(team, task);
}

template <class F>
void lstm_forward(const PackedWeights<F>& weights,
                  const LstmForward<typename Format<F>::Value>& call, int num_threads) {
  Team team(multiply_adds(call.shape), num_threads, kLeastWork<F>);
  run_alone<F>(team, {&weights, call});
}

#define LSTM_EXT_INSTANTIATE(F)                                              \
  template void lstm_forward(const std::vector<ForwardTask<F>>&, bool, int); \
  template void lstm_forward(const PackedWeights<F>&, const LstmForward<Format<F>::Value>&, int)
LSTM_EXT_INSTANTIATE(float);
LSTM_EXT_INSTANTIATE(double);
LSTM_EXT_INSTANTIATE(Bfloat16);
LSTM_EXT_INSTANTIATE(Int8);
#undef LSTM_EXT_INSTANTIATE

}  // namespace cpu
}  // namespace lstm_ext
