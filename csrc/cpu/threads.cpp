#include "cpu/threads.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "cpu/affinity.hpp"
#include "cpu/partition.hpp"

#ifndef _WIN32
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace lstm_ext {
namespace cpu {
namespace {

void pause_processor() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
  __asm__ volatile("yield");
#endif
}

// Waits actively for a moment that is longer than any wait between well-balanced threads; past it
// the other one has probably lost its processor. Returns whether the condition came true.
template <class Condition>
bool spin_until(Condition&& condition) {
  constexpr int kSpins = 4000;
  for (int spin = 0; spin < kSpins; ++spin) {
    if (condition()) return true;
    pause_processor();
  }
  return condition();
}

int positive_from_environment(const char* name, long most) {
  const char* text = std::getenv(name);
  if (text == nullptr) return 0;
  const long value = std::strtol(text, nullptr, 10);  // OMP_NUM_THREADS="4,2": the outer level
  return value > 0 && value <= most ? static_cast<int>(value) : 0;
}

struct ThreadCount {
  int value;
  const char* source;
};

ThreadCount from_environment() {
  for (const char* name : {"LSTM_EXT_NUM_THREADS", "OMP_NUM_THREADS"}) {
    if (const int n = positive_from_environment(name, 4096)) return {n, name};
  }
  return {0, nullptr};
}

// 0 where there is none.
std::atomic<int> chosen_threads{0};
std::atomic<int> limited_threads{0};

ThreadCount unlimited() {
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  if (chosen > 0) return {chosen, "set_num_threads"};
  static const ThreadCount environment = from_environment();
  if (environment.value > 0) return environment;
  return {available_processors(), "affinity"};
}

ThreadCount thread_count() {
  const int limit = limited_threads.load(std::memory_order_relaxed);
  return limit > 0 ? ThreadCount{limit, "limit"} : unlimited();
}

// Negative: nobody has set it.
std::atomic<int> chosen_spin_time{-1};

// How often a thread waited in vain for one that had probably lost its processor.
std::atomic<uint32_t> stalls{0};

// For how long short calls run alone after a stall: longer each time it happens again, until a call
// goes through without one. Guarded by Pool::in_use.
class Retreat {
 public:
  bool holds() const { return Clock::now() < until_; }
  void extend() {
    length_ = std::min(2 * length_, std::chrono::microseconds(200000));
    until_ = Clock::now() + length_;
  }
  void end() { length_ = kShortest; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds kShortest{2000};
  std::chrono::microseconds length_ = kShortest;
  Clock::time_point until_{};
};

}  // namespace

int num_threads() { return thread_count().value; }

const char* num_threads_source() { return thread_count().source; }

void set_num_threads(int n) {
  chosen_threads.store(n, std::memory_order_relaxed);
  limited_threads.store(0, std::memory_order_relaxed);
}

void limit_num_threads(int n) {
  limited_threads.store(n == unlimited().value ? 0 : n, std::memory_order_relaxed);
}

int spin_time() {
  const int chosen = chosen_spin_time.load(std::memory_order_relaxed);
  if (chosen >= 0) return chosen;
  static const int environment = positive_from_environment("LSTM_EXT_SPIN_TIME", kMaxSpinTime);
  return environment;
}

void set_spin_time(int microseconds) {
  chosen_spin_time.store(microseconds, std::memory_order_relaxed);
}

void Barrier::wait() {
  if (members_ == 1) return;
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  if (spin_until([&] { return phase_.load(std::memory_order_acquire) != phase; })) return;
  stalls.fetch_add(1, std::memory_order_relaxed);
  while (phase_.load(std::memory_order_acquire) == phase) std::this_thread::yield();
}

void Progress::wait_for(int64_t count) const {
  const auto reached = [&] { return count_.load(std::memory_order_acquire) >= count; };
  if (spin_until(reached)) return;
  stalls.fetch_add(1, std::memory_order_relaxed);
  while (!reached()) std::this_thread::yield();
}

struct Pool {
  std::mutex in_use;  // held by the call that has the team
  Retreat retreat;

  std::mutex mutex;  // guards what follows
  std::condition_variable wake, done;
  std::atomic<uint64_t> job{0};  // changes under the lock
  int wanted = 0;                // workers that may take part in the job
  bool over = true;              // too late to take part
  int started = 0;               // those that do
  std::atomic<int> finished{0};  // of these, done
  void (*function)(const void*, int) = nullptr;
  const void* argument = nullptr;

  std::vector<KeptThread> workers;  // guarded by in_use

  void work(int member) {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex);
    while (true) {
      wake.wait(lock, [&] { return job != seen && member <= wanted; });
      seen = job;
      if (!over) {
        const auto f = function;
        const void* const a = argument;
        ++started;
        lock.unlock();
        f(a, member);
        finished.fetch_add(1, std::memory_order_release);
        lock.lock();
        done.notify_one();  // under the lock, so that it cannot fall before the wait
      }
      if (spin_time() > 0) {
        lock.unlock();
        await_job_after(seen);
        lock.lock();
      }
    }
  }

  // Waits actively for a job after that one, for spin_time() at most, which may change meanwhile.
  void await_job_after(uint64_t seen) const {
    constexpr int kSpinsPerLook = 16;  // at the clock
    const auto start = std::chrono::steady_clock::now();
    do {
      for (int spin = 0; spin < kSpinsPerLook; ++spin) {
        if (job.load(std::memory_order_acquire) != seen) return;
        pause_processor();
      }
    } while (std::chrono::steady_clock::now() - start < std::chrono::microseconds(spin_time()));
  }

  // Starts workers up to `count`; returns how many of these there are.
  int grow(int count) {
    try {
      workers.reserve(static_cast<std::size_t>(count));
      while (static_cast<int>(workers.size()) < count) {
        std::thread thread(&Pool::work, this, static_cast<int>(workers.size()) + 1);
        workers.emplace_back(thread.native_handle());
        thread.detach();
      }
    } catch (const std::exception&) {
      // No more threads or memory to be had: the team is smaller.
    }
    return std::min(count, static_cast<int>(workers.size()));
  }
};

namespace {

// Never destroyed: workers may outlive every static object of the process.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  Pool* current = the_pool.load(std::memory_order_acquire);
  if (current != nullptr) return *current;
  static std::mutex creation;
  const std::lock_guard<std::mutex> lock(creation);
  current = the_pool.load(std::memory_order_acquire);
  if (current == nullptr) {
    current = new Pool;
    the_pool.store(current, std::memory_order_release);
#ifndef _WIN32
    // The child has none of the parent's threads, and perhaps a lock that nobody will open.
    static const int registered = pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr); });
    (void)registered;
#endif
  }
  return *current;
}

}  // namespace

Team::Team(int64_t multiply_adds, int limit, int64_t least_each)
    : size_(1),
      pool_(nullptr),
      is_short_(multiply_adds < kShortWork),
      stalls_before_(stalls.load(std::memory_order_relaxed)) {
  const int64_t worth = threads_worth(multiply_adds, least_each);
  if (worth <= 1) return;  // before the processors are counted, which takes a system call
  const int wanted = static_cast<int>(std::min<int64_t>(worth, limit > 0 ? limit : num_threads()));
  if (wanted <= 1) return;
  Pool& shared = pool();
  if (!shared.in_use.try_lock()) return;
  if (is_short_ && shared.retreat.holds()) {
    shared.in_use.unlock();
    return;
  }
  pool_ = &shared;
  size_ = 1 + shared.grow(wanted - 1);
}

Team::~Team() {
  if (pool_ == nullptr) return;
  if (is_short_) {
    const bool stalled = stalls.load(std::memory_order_relaxed) != stalls_before_;
    stalled ? pool_->retreat.extend() : pool_->retreat.end();
  }
  pool_->in_use.unlock();
}

void Team::run_on_all(void (*function)(const void*, int), const void* argument, bool with_late) {
  if (size_ > 1) {
    const int here = current_processor();
    for (int i = 0; i < size_ - 1; ++i) pool_->workers[i].keep_off(here);
    {
      const std::lock_guard<std::mutex> lock(pool_->mutex);
      pool_->function = function;
      pool_->argument = argument;
      pool_->wanted = size_ - 1;
      pool_->over = false;
      pool_->started = 0;
      pool_->finished.store(0, std::memory_order_relaxed);
      ++pool_->job;
    }
    pool_->wake.notify_all();
  }
  function(argument, 0);
  if (size_ == 1) return;
  int expected = size_ - 1;
  if (with_late) {
    const std::lock_guard<std::mutex> lock(pool_->mutex);
    pool_->over = true;
    expected = pool_->started;
  }
  const auto finished = [&] { return pool_->finished.load(std::memory_order_acquire) == expected; };
  if (spin_until(finished)) return;
  stalls.fetch_add(1, std::memory_order_relaxed);
  std::unique_lock<std::mutex> lock(pool_->mutex);
  pool_->done.wait(lock, finished);
}

}  // namespace cpu
}  // namespace lstm_ext
