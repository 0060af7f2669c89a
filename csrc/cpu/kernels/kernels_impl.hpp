// The algorithms, once, for any vector type V and any weights W: how a format's values are loaded
// and multiplied. Included inside the anonymous namespace of one kernel file, after its vectors and
// math.hpp. No standard library here: see README.md.

// Weights as they are, float or double. What other W offer too:
//   Factor    an activation, or a group of them, broadcast
//   Loaded    a vector of weights, or of groups of them
//   kGroup    how many k lie side by side and are multiplied at once
//   kTileRows the greatest height of a tile whose sums and factors the registers hold
//   kColumnsFirst   which loop is the inner one: over columns, or over rows, where loading a weight
//             takes more than an instruction
//   Mode      the state of the floating-point unit while it lives
//   start     what a sum begins with, for the columns from `column` on
//   total     a finished sum as values
template <class V>
struct Values {
  using Format = typename V::Scalar;
  using Vector = V;
  using Activation = typename V::Scalar;
  using Weight = typename V::Scalar;
  using Factor = V;
  using Loaded = V;
  using Sum = V;
  struct Mode {};
  static constexpr int kGroup = 1;
  static constexpr int kTileRows = LSTM_EXT_TILE_ROWS;
  static constexpr bool kColumnsFirst = false;

  static Sum start(const Scales<Format>&, int64_t, int64_t) { return V::broadcast(0); }
  static Factor broadcast(const Activation* a) { return V::broadcast(*a); }
  static Loaded load(const Weight* panel) { return V::load(panel); }
  static Sum multiply_add(Factor a, Loaded b, Sum sum) { return fma(a, b, sum); }
  static V total(Sum sum, const Scales<Format>&, int64_t, int64_t) { return sum; }
};

template <class W>
using Value = typename Format<typename W::Format>::Value;

template <class W, int R, int N>
struct Tile {
  typename W::Sum sum[R][N];
};

// tile = a (R, k) · panel (k, N vectors), in the order of k; `groups` is k counted in groups.
//
// `ahead` is what will be read next: a line of it is fetched with each group, so that the next
// panel comes from the second-level cache even when the weights lie in memory. High tiles only: low
// ones have no arithmetic to hide the fetches behind.
template <class W, int R, int N>
LSTM_EXT_INLINE void multiply(Tile<W, R, N>& tile, const typename W::Activation* a,
                              int64_t row_stride, int64_t column_stride,
                              const typename W::Weight* panel, int64_t panel_width, int64_t groups,
                              const typename W::Weight* ahead) {
  constexpr int kVector = W::Vector::kLanes * W::kGroup;
  constexpr int kLine = 64 / sizeof(typename W::Weight);
  typename W::Sum own[R][N];  // else compilers keep integer sums in memory
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < N; ++j) own[r][j] = tile.sum[r][j];
  }
  for (int64_t p = 0; p < groups; ++p) {
    if constexpr (W::kColumnsFirst) {
      typename W::Factor ar[R];
      LSTM_EXT_UNROLL
      for (int r = 0; r < R; ++r) ar[r] = W::broadcast(a + r * row_stride);
      LSTM_EXT_UNROLL
      for (int j = 0; j < N; ++j) {
        const typename W::Loaded b = W::load(panel + j * kVector);
        LSTM_EXT_UNROLL
        for (int r = 0; r < R; ++r) own[r][j] = W::multiply_add(ar[r], b, own[r][j]);
      }
    } else {
      typename W::Loaded b[N];
      LSTM_EXT_UNROLL
      for (int j = 0; j < N; ++j) b[j] = W::load(panel + j * kVector);
      LSTM_EXT_UNROLL
      for (int r = 0; r < R; ++r) {
        const typename W::Factor ar = W::broadcast(a + r * row_stride);
        LSTM_EXT_UNROLL
        for (int j = 0; j < N; ++j) own[r][j] = W::multiply_add(ar, b[j], own[r][j]);
      }
    }
    a += column_stride;
    panel += panel_width * W::kGroup;
    if (R >= 3 && N == kPanelVectors) {
      LSTM_EXT_PREFETCH(ahead);
      ahead += kLine;
    }
  }
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < N; ++j) tile.sum[r][j] = own[r][j];
  }
}

template <class W>
constexpr int64_t groups_in(int64_t k) {
  return (k + W::kGroup - 1) / W::kGroup;
}

template <class V>
LSTM_EXT_INLINE V load_first(const typename V::Scalar* p, int n) {
  return n >= V::kLanes ? V::load(p) : V::load_partial(p, n);
}

template <class V>
LSTM_EXT_INLINE void store_first(V v, typename V::Scalar* p, int n) {
  n >= V::kLanes ? v.store(p) : v.store_partial(p, n);
}

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

// Rows are cut into tiles of nearly equal height, so that no short remainder runs at a low rate.
struct RowTiles {
  int64_t rows, count;
  RowTiles(int64_t rows_, int max_rows) : rows(rows_), count((rows_ + max_rows - 1) / max_rows) {}
  int64_t begin(int64_t tile) const { return rows * tile / count; }
};

// ---- gemm ----

template <class W, int R, int N>
void gemm_tile(const GemmArgs<typename W::Format>& g, int64_t row, int64_t column, int64_t k0,
               int64_t depth, const typename W::Weight* ahead) {
  using V = typename W::Vector;
  using T = Value<W>;
  const int64_t columns_before = column / g.panel_width * g.panel_width;
  const auto* a = reinterpret_cast<const typename W::Activation*>(
      g.a + row * g.a_row_stride + k0 / W::kGroup * g.a_column_stride);
  Tile<W, R, N> tile;
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < N; ++j) tile.sum[r][j] = W::start(g.scales, k0, column + j * V::kLanes);
  }
  constexpr int64_t kUnit = sizeof(typename W::Activation) / sizeof(*g.a);
  multiply<W, R, N>(tile, a, g.a_row_stride / kUnit, g.a_column_stride / kUnit,
                    g.panels + columns_before * groups_in<W>(g.k) * W::kGroup + k0 * g.panel_width,
                    g.panel_width, groups_in<W>(depth), ahead);
  const int columns = static_cast<int>(min64(g.n - column, N * V::kLanes));
  const bool from_c = g.accumulate || k0 > 0;
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    T* c = g.c + (row + r) * g.c_row_stride + column;
    LSTM_EXT_UNROLL
    for (int j = 0; j < N; ++j) {
      const int offset = j * V::kLanes;
      const T* start = from_c ? c + offset : g.bias ? g.bias + column + offset : nullptr;
      V total = W::total(tile.sum[r][j], g.scales, row + r, column + offset);
      if (start) total = load_first<V>(start, columns - offset) + total;
      store_first(total, c + offset, columns - offset);
    }
  }
}

template <class W, int N>
void gemm_tile_of_rows(const GemmArgs<typename W::Format>& g, int64_t row, int64_t column,
                       int64_t k0, int64_t depth, const typename W::Weight* ahead, int64_t rows) {
  switch (rows) {
    case 1:
      return gemm_tile<W, 1, N>(g, row, column, k0, depth, ahead);
    case 2:
      return gemm_tile<W, 2, N>(g, row, column, k0, depth, ahead);
    case 3:
      return gemm_tile<W, 3, N>(g, row, column, k0, depth, ahead);
#if LSTM_EXT_TILE_ROWS > 3
    case 4:
      return gemm_tile<W, 4, N>(g, row, column, k0, depth, ahead);
    case 5:
      return gemm_tile<W, 5, N>(g, row, column, k0, depth, ahead);
    case 6:
      return gemm_tile<W, 6, N>(g, row, column, k0, depth, ahead);
#endif
  }
}

// The part of the next panel block that row tile `tile` fetches: all tiles together fetch all of
// it, or as much as there are tiles.
template <class W>
const typename W::Weight* slice_ahead(const typename W::Weight* next, int64_t tile, int64_t depth) {
  constexpr int64_t kLine = 64 / sizeof(typename W::Weight);
  constexpr int64_t kSlices = kPanelVectors * W::Vector::kLanes * W::kGroup / kLine;
  return next + tile % (kSlices > 0 ? kSlices : 1) * groups_in<W>(depth) * kLine;
}

// Blocks of k outermost and panels next: a panel's block stays in the cache for all row tiles.
template <class W>
void gemm(const GemmArgs<typename W::Format>& g) {
  constexpr int64_t kDepth = Format<typename W::Format>::kDepthBlock;
  [[maybe_unused]] const typename W::Mode mode;
  const RowTiles tiles(g.m, W::kTileRows);
  int64_t k0 = 0;
  do {
    const int64_t depth = min64(g.k - k0, kDepth);
    for (int64_t column = 0; column < g.n; column += g.panel_width) {
      const int64_t width = min64(g.n - column, g.panel_width);
      const int vectors = static_cast<int>((width + W::Vector::kLanes - 1) / W::Vector::kLanes);
      const auto* next =
          g.panels + (column + g.panel_width) * groups_in<W>(g.k) * W::kGroup + k0 * g.panel_width;
      for (int64_t tile = 0; tile < tiles.count; ++tile) {
        const int64_t row = tiles.begin(tile);
        const int64_t rows = tiles.begin(tile + 1) - row;
        const auto* ahead = slice_ahead<W>(next, tile, depth);
        switch (vectors) {
          case 1:
            gemm_tile_of_rows<W, 1>(g, row, column, k0, depth, ahead, rows);
            break;
          case 2:
            gemm_tile_of_rows<W, 2>(g, row, column, k0, depth, ahead, rows);
            break;
          case 3:
            gemm_tile_of_rows<W, 3>(g, row, column, k0, depth, ahead, rows);
            break;
          default:
            gemm_tile_of_rows<W, 4>(g, row, column, k0, depth, ahead, rows);
            break;
        }
      }
    }
    k0 += kDepth;
  } while (k0 < g.k);
}

// ---- forward step ----

// A block of one operand's k, and its place in the sum.
template <class W>
struct DepthBlock {
  const StepOperand<typename W::Format>* operand;
  int64_t k0, depth;
  bool first, last;
  const typename W::Weight* next;  // the panel block that follows
};

template <class W, int R>
void step_tile(const StepArgs<typename W::Format>& s, int64_t row, int64_t block,
               const DepthBlock<W>& d, const typename W::Weight* ahead) {
  using V = typename W::Vector;
  using T = Value<W>;
  constexpr int kWidth = kNumGates * V::kLanes;
  const auto& operand = *d.operand;
  constexpr int64_t kUnit = sizeof(typename W::Activation) / sizeof(*operand.a);
  Tile<W, R, kNumGates> tile;
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < kNumGates; ++j) {
      tile.sum[r][j] = W::start(operand.scales, d.k0, block * kWidth + j * V::kLanes);
    }
  }
  multiply<W, R, kNumGates>(
      tile,
      reinterpret_cast<const typename W::Activation*>(operand.a + row * operand.a_row_stride) +
          d.k0,
      operand.a_row_stride / kUnit, W::kGroup,
      operand.panels + (block * groups_in<W>(operand.k) * W::kGroup + d.k0) * kWidth, kWidth,
      groups_in<W>(d.depth), ahead);

  const int64_t unit = block * V::kLanes;
  const int units = static_cast<int>(min64(s.hidden_size - unit, V::kLanes));
  V z[R][kNumGates];
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    T* total = s.totals + (row + r) * kWidth;
    const T* start = !d.first ? total
                     : s.z    ? s.z + (row + r) * s.z_row_stride + block * kWidth
                              : s.bias + block * kWidth;
    LSTM_EXT_UNROLL
    for (int j = 0; j < kNumGates; ++j) {
      z[r][j] = V::load(start + j * V::kLanes) +
                W::total(tile.sum[r][j], operand.scales, row + r, block * kWidth + j * V::kLanes);
      if (!d.last) z[r][j].store(total + j * V::kLanes);
    }
  }
  if (!d.last) return;

  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    T* c = s.c + (row + r) * s.state_row_stride + unit;
    const CellGates<V> gates =
        activate_gates<V>({z[r][kInput], z[r][kForget], z[r][kCandidate], z[r][kOutput]});
    const CellState<V> state = cell_forward<V>(gates, V::load(c));
    state.c.store(c);
    state.h.store(s.h + (row + r) * s.state_row_stride + unit);
    if (s.output) store_first(state.h, s.output + (row + r) * s.output_row_stride + unit, units);
    if (s.gates) {
      T* g = s.gates + (row + r) * kNumGates * s.hidden_size + unit;
      store_first(gates.input, g + kInput * s.hidden_size, units);
      store_first(gates.forget, g + kForget * s.hidden_size, units);
      store_first(gates.candidate, g + kCandidate * s.hidden_size, units);
      store_first(gates.output, g + kOutput * s.hidden_size, units);
      store_first(state.c, s.cells + (row + r) * s.hidden_size + unit, units);
    }
  }
}

template <class W>
void step_tiles(const StepArgs<typename W::Format>& s, int64_t block, const DepthBlock<W>& d) {
  const RowTiles tiles(s.rows, W::kTileRows);
  for (int64_t tile = 0; tile < tiles.count; ++tile) {
    const int64_t row = tiles.begin(tile);
    const auto* ahead = slice_ahead<W>(d.next, tile, d.depth);
    switch (tiles.begin(tile + 1) - row) {
      case 1:
        step_tile<W, 1>(s, row, block, d, ahead);
        break;
      case 2:
        step_tile<W, 2>(s, row, block, d, ahead);
        break;
      case 3:
        step_tile<W, 3>(s, row, block, d, ahead);
        break;
#if LSTM_EXT_TILE_ROWS > 3
      case 4:
        step_tile<W, 4>(s, row, block, d, ahead);
        break;
      case 5:
        step_tile<W, 5>(s, row, block, d, ahead);
        break;
      case 6:
        step_tile<W, 6>(s, row, block, d, ahead);
        break;
#endif
    }
  }
}

template <class W>
void step(const StepArgs<typename W::Format>& s) {
  constexpr int64_t kDepth = Format<typename W::Format>::kDepthBlock;
  constexpr int64_t kWidth = kNumGates * W::Vector::kLanes;
  [[maybe_unused]] const typename W::Mode mode;
  for (int64_t block = s.block_begin; block < s.block_end; ++block) {
    for (int i = 0; i < s.num_operands; ++i) {
      const auto& operand = s.operands[i];
      const auto& after = s.operands[i + 1 < s.num_operands ? i + 1 : 0];
      const int64_t padded_k = groups_in<W>(operand.k) * W::kGroup;
      const auto* next = after.panels + (i + 1 < s.num_operands ? block : block + 1) *
                                            groups_in<W>(after.k) * W::kGroup * kWidth;
      for (int64_t k0 = 0; k0 < operand.k; k0 += kDepth) {
        const int64_t depth = min64(operand.k - k0, kDepth);
        const bool ends = k0 + depth == operand.k;
        step_tiles<W>(s, block,
                      {&operand, k0, depth, i == 0 && k0 == 0, ends && i + 1 == s.num_operands,
                       ends ? next : operand.panels + (block * padded_k + k0 + depth) * kWidth});
      }
    }
  }
}

// ---- backward step, elementwise ----

template <class V>
void cell_backward(const CellBackwardArgs<typename V::Scalar>& b) {
  using T = typename V::Scalar;
  const V zero = V::broadcast(0);
  const V one = V::broadcast(1);
  const int64_t hidden = b.hidden_size;
  for (int64_t row = 0; row < b.rows; ++row) {
    for (int64_t unit = b.unit_begin; unit < b.unit_end; unit += V::kLanes) {
      const int n = static_cast<int>(min64(b.unit_end - unit, V::kLanes));
      const T* g = b.gates + row * kNumGates * hidden + unit;
      const CellGates<V> gates = {
          load_first<V>(g + kInput * hidden, n), load_first<V>(g + kForget * hidden, n),
          load_first<V>(g + kCandidate * hidden, n), load_first<V>(g + kOutput * hidden, n)};
      const V c = load_first<V>(b.cells + row * hidden + unit, n);
      const V c_prev = b.c_prev ? load_first<V>(b.c_prev + row * hidden + unit, n) : zero;
      V d_h = load_first<V>(b.d_h + row * b.d_state_row_stride + unit, n);
      if (b.d_output) {
        d_h = d_h + load_first<V>(b.d_output + row * b.d_output_row_stride + unit, n);
      }
      T* d_c = b.d_c + row * b.d_state_row_stride + unit;
      const CellGradient<V> d =
          lstm_ext::cell_backward<V>(gates, c, c_prev, d_h, load_first<V>(d_c, n), one);
      T* d_gates = b.d_gates + row * kNumGates * hidden + unit;
      store_first(d.z.input, d_gates + kInput * hidden, n);
      store_first(d.z.forget, d_gates + kForget * hidden, n);
      store_first(d.z.candidate, d_gates + kCandidate * hidden, n);
      store_first(d.z.output, d_gates + kOutput * hidden, n);
      store_first(d.c_prev, d_c, n);
    }
  }
}
