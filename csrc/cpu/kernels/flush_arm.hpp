// The state of ARM's vector unit in which results and operands below 2^-126 count as zero. Included
// inside the anonymous namespace of one kernel file.
//
// ARM looks at a result before it is rounded and x86 after: one that rounding lifts to 2^-126 is
// zero here and 2^-126 there.
class FlushDenormals {
 public:
  FlushDenormals() : before_(read()) { write(before_ | kFlush); }
  ~FlushDenormals() { write(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  static constexpr uint64_t kFlush = uint64_t{1} << 24;

  // Compilers do not know that arithmetic depends on this register, but they move no load or store
  // across either statement, and so nothing that lies between a load and a store.
  static uint64_t read() {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control) : : "memory");
    return control;
  }
  static void write(uint64_t control) {
    __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
  }

  uint64_t before_;
};
