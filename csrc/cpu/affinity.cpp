#include "cpu/affinity.hpp"

#ifdef __linux__
#include <pthread.h>
#endif

namespace lstm_ext {
namespace cpu {

int available_processors() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n > 0 ? static_cast<int>(n) : 1;
}

int current_processor() {
#ifdef __linux__
  return sched_getcpu();
#else
  return -1;
#endif
}

void KeptThread::keep_off(int processor) {
#ifdef __linux__
  if (processor == processor_ || processor < 0 || processor >= CPU_SETSIZE) return;
  cpu_set_t now;
  if (pthread_getaffinity_np(thread_, sizeof now, &now) != 0) return;
  // Somebody else may have set it since.
  if (processor_ < 0 || !CPU_EQUAL(&now, &set_)) allowed_ = now;
  set_ = allowed_;
  CPU_CLR(processor, &set_);
  if (CPU_COUNT(&set_) == 0) set_ = allowed_;
  if (pthread_setaffinity_np(thread_, sizeof set_, &set_) == 0) processor_ = processor;
#else
  static_cast<void>(thread_);
  static_cast<void>(processor_);
  static_cast<void>(processor);
#endif
}

}  // namespace cpu
}  // namespace lstm_ext
