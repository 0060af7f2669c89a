// A team of threads for the length of a call.
//
// The workers sleep between calls: nothing spins once a call has returned, unless somebody asks for
// it. One call at a time has the team; a second caller meanwhile runs on its own thread, so that
// callers share the cores and do not multiply them. A child of fork() starts with its own team.
#pragma once

#include <atomic>
#include <cstdint>

#include "cpu/partition.hpp"

namespace lstm_ext {
namespace cpu {

// The number of threads that a call may use: a limit if one is in force, else the last
// set_num_threads(), else LSTM_EXT_NUM_THREADS, else OMP_NUM_THREADS, else the processors that the
// calling thread may run on at that moment.
int num_threads();
void set_num_threads(int n);  // n >= 1; ends a limit

// Puts num_threads() to n, above everything else, until it is put to what it would be without a
// limit: a caller that notes num_threads(), limits it and puts it back leaves nothing behind.
void limit_num_threads(int n);

// Where num_threads() comes from: "limit", "set_num_threads", an environment variable's name, or
// "affinity".
const char* num_threads_source();

// For how long a worker that has done its part waits actively for the next call before it sleeps,
// in microseconds: the last set_spin_time(), else LSTM_EXT_SPIN_TIME, else 0. Who waits need not be
// woken, which takes longer than a short call, but has a processor meanwhile.
int spin_time();
void set_spin_time(int microseconds);  // 0 to kMaxSpinTime
constexpr int kMaxSpinTime = 10000000;

// Where the members of a team meet. Between two processors a wait costs a fraction of a
// microsecond; a member that waits long gives its processor away.
class Barrier {
 public:
  explicit Barrier(int members) : members_(members) {}
  void wait();

 private:
  const int members_;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> phase_{0};
};

// How far one member has come, for others to wait for.
class Progress {
 public:
  void advance_to(int64_t count) { count_.store(count, std::memory_order_release); }
  void wait_for(int64_t count) const;

 private:
  std::atomic<int64_t> count_{0};
};

// Holds the team while it lives. `size()` is what it got: at most what the work is worth, and 1 if
// another call has the team.
//
// When something else keeps a processor busy, a short call may wait for its workers far longer than
// it would take alone. Short calls that have met with that run alone for a while.
class Team {
 public:
  // multiply_adds: the call's work, and what a thread must have of it. limit: the most threads to
  // use; 0 stands for num_threads().
  Team(int64_t multiply_adds, int limit, int64_t least_each = kMinWorkPerThread);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  // Calls function(member) once for each member in [0, size()), the caller being member 0, and
  // returns when all have returned. The function must not throw.
  template <class Function>
  void run(const Function& function) {
    run_on_all(&call<Function>, &function, false);
  }

  // The same, but once function(0) has returned, no further member begins. For work that the caller
  // can do alone if it must: waking a sleeping thread takes tens of microseconds.
  template <class Function>
  void run_with_late(const Function& function) {
    run_on_all(&call<Function>, &function, true);
  }

 private:
  template <class Function>
  static void call(const void* function, int member) {
    (*static_cast<const Function*>(function))(member);
  }
  void run_on_all(void (*function)(const void*, int), const void* argument, bool with_late);

  int size_;
  struct Pool* pool_;
  bool is_short_;
  uint32_t stalls_before_;
};

// Calls function(part) for parts that make up [0, n), one on each thread that the work is worth.
template <class Function>
void for_parts(int64_t n, int64_t multiply_adds, Function&& function) {
  Team team(multiply_adds, 0);
  team.run([&](int member) {
    const Range part = split(n, team.size(), member);
    if (part.size() > 0) function(part);
  });
}

}  // namespace cpu
}  // namespace lstm_ext
