// Which processors threads run on.
#pragma once

#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace lstm_ext {
namespace cpu {

// Those that the calling thread may run on, at least 1.
int available_processors();

// The one that the calling thread runs on, -1 where it cannot be known.
int current_processor();

// A thread that is kept off one processor at a time: its caller's. Linux may wake a thread where
// its waker runs though other processors idle, in a virtual machine above all, where one that
// sleeps looks as if it were taken. The two then take turns.
class KeptThread {
 public:
  explicit KeptThread(std::thread::native_handle_type thread) : thread_(thread) {}

  // Takes effect when the thread is next woken, or at once if it runs there. The processor that it
  // was kept off before is given back to it. Nothing happens where it may run nowhere else.
  void keep_off(int processor);

 private:
  std::thread::native_handle_type thread_;
  int processor_ = -1;
#ifdef __linux__
  cpu_set_t allowed_{}, set_{};  // what others allow it, and what this left of that
#endif
};

}  // namespace cpu
}  // namespace lstm_ext
