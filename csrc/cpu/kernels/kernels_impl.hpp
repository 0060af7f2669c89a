// The algorithms, once, for any vector type V. Included inside the anonymous namespace of one
// kernel file, after its vectors and math.hpp. No standard library here: see README.md.

template <class V, int R, int N>
struct Tile {
  V sum[R][N];
};

// tile = a (R, k) · panel (k, N vectors), from zero, in the order of k.
//
// `ahead` is what will be read next: a line of it is fetched with each step of k, so that the next
// panel comes from the second-level cache even when the weights lie in memory. High tiles only: low
// ones have no arithmetic to hide the fetches behind.
template <class V, int R, int N>
LSTM_EXT_INLINE void multiply(Tile<V, R, N>& tile, const typename V::Scalar* a, int64_t row_stride,
                              int64_t column_stride, const typename V::Scalar* panel,
                              int64_t panel_width, int64_t k, const typename V::Scalar* ahead) {
  constexpr int kLine = 64 / sizeof(typename V::Scalar);
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < N; ++j) tile.sum[r][j] = V::broadcast(0);
  }
  for (int64_t p = 0; p < k; ++p) {
    V b[N];
    LSTM_EXT_UNROLL
    for (int j = 0; j < N; ++j) b[j] = V::load(panel + j * V::kLanes);
    LSTM_EXT_UNROLL
    for (int r = 0; r < R; ++r) {
      const V ar = V::broadcast(a[r * row_stride]);
      LSTM_EXT_UNROLL
      for (int j = 0; j < N; ++j) tile.sum[r][j] = fma(ar, b[j], tile.sum[r][j]);
    }
    a += column_stride;
    panel += panel_width;
    if (R >= 3 && N == kPanelVectors) {
      LSTM_EXT_PREFETCH(ahead);
      ahead += kLine;
    }
  }
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

template <class V, int R, int N>
void gemm_tile(const GemmArgs<typename V::Scalar>& g, int64_t row, int64_t column, int64_t k0,
               int64_t depth, const typename V::Scalar* ahead) {
  using T = typename V::Scalar;
  Tile<V, R, N> tile;
  const T* panel = g.panels + (column / g.panel_width) * g.panel_width * g.k + k0 * g.panel_width;
  multiply<V, R, N>(tile, g.a + row * g.a_row_stride + k0 * g.a_column_stride, g.a_row_stride,
                    g.a_column_stride, panel, g.panel_width, depth, ahead);
  const int columns = static_cast<int>(min64(g.n - column, N * V::kLanes));
  const bool from_c = g.accumulate || k0 > 0;
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    T* c = g.c + (row + r) * g.c_row_stride + column;
    LSTM_EXT_UNROLL
    for (int j = 0; j < N; ++j) {
      const int offset = j * V::kLanes;
      const T* start = from_c ? c + offset : g.bias ? g.bias + column + offset : nullptr;
      V total = tile.sum[r][j];
      if (start) total = load_first<V>(start, columns - offset) + total;
      store_first(total, c + offset, columns - offset);
    }
  }
}

template <class V, int N>
void gemm_tile_of_rows(const GemmArgs<typename V::Scalar>& g, int64_t row, int64_t column,
                       int64_t k0, int64_t depth, const typename V::Scalar* ahead, int64_t rows) {
  switch (rows) {
    case 1:
      return gemm_tile<V, 1, N>(g, row, column, k0, depth, ahead);
    case 2:
      return gemm_tile<V, 2, N>(g, row, column, k0, depth, ahead);
    case 3:
      return gemm_tile<V, 3, N>(g, row, column, k0, depth, ahead);
#if LSTM_EXT_TILE_ROWS > 3
    case 4:
      return gemm_tile<V, 4, N>(g, row, column, k0, depth, ahead);
    case 5:
      return gemm_tile<V, 5, N>(g, row, column, k0, depth, ahead);
    case 6:
      return gemm_tile<V, 6, N>(g, row, column, k0, depth, ahead);
#endif
  }
}

// The part of the next panel block that row tile `tile` fetches: all tiles together fetch all of
// it, or as much as there are tiles.
template <class V>
const typename V::Scalar* slice_ahead(const typename V::Scalar* next, int64_t tile, int64_t depth) {
  constexpr int64_t kLine = 64 / sizeof(typename V::Scalar);
  constexpr int64_t kSlices = kPanelVectors * V::kLanes / kLine;
  return next + tile % (kSlices > 0 ? kSlices : 1) * depth * kLine;
}

// Blocks of k outermost and panels next: a panel's block stays in the cache for all row tiles.
template <class V>
void gemm(const GemmArgs<typename V::Scalar>& g) {
  const RowTiles tiles(g.m, LSTM_EXT_TILE_ROWS);
  int64_t k0 = 0;
  do {
    const int64_t depth = min64(g.k - k0, kDepthBlock);
    for (int64_t column = 0; column < g.n; column += g.panel_width) {
      const int64_t width = min64(g.n - column, g.panel_width);
      const int vectors = static_cast<int>((width + V::kLanes - 1) / V::kLanes);
      const auto* next = g.panels + (column + g.panel_width) * g.k + k0 * g.panel_width;
      for (int64_t tile = 0; tile < tiles.count; ++tile) {
        const int64_t row = tiles.begin(tile);
        const int64_t rows = tiles.begin(tile + 1) - row;
        const auto* ahead = slice_ahead<V>(next, tile, depth);
        switch (vectors) {
          case 1:
            gemm_tile_of_rows<V, 1>(g, row, column, k0, depth, ahead, rows);
            break;
          case 2:
            gemm_tile_of_rows<V, 2>(g, row, column, k0, depth, ahead, rows);
            break;
          case 3:
            gemm_tile_of_rows<V, 3>(g, row, column, k0, depth, ahead, rows);
            break;
          default:
            gemm_tile_of_rows<V, 4>(g, row, column, k0, depth, ahead, rows);
            break;
        }
      }
    }
    k0 += kDepthBlock;
  } while (k0 < g.k);
}

// ---- forward step ----

// A block of one operand's k, and its place in the sum.
template <class T>
struct DepthBlock {
  const StepOperand<T>* operand;
  int64_t k0, depth;
  bool first, last;
  const T* next;  // the panel block that follows
};

template <class V, int R>
void step_tile(const StepArgs<typename V::Scalar>& s, int64_t row, int64_t block,
               const DepthBlock<typename V::Scalar>& d, const typename V::Scalar* ahead) {
  using T = typename V::Scalar;
  constexpr int kWidth = kNumGates * V::kLanes;
  Tile<V, R, kNumGates> tile;
  const T* panel = d.operand->panels + (block * d.operand->k + d.k0) * kWidth;
  multiply<V, R, kNumGates>(tile, d.operand->a + row * d.operand->a_row_stride + d.k0,
                            d.operand->a_row_stride, 1, panel, kWidth, d.depth, ahead);

  const int64_t unit = block * V::kLanes;
  const int units = static_cast<int>(min64(s.hidden_size - unit, V::kLanes));
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    T* total = s.totals + (row + r) * kWidth;
    const T* start = !d.first ? total
                     : s.z    ? s.z + (row + r) * s.z_row_stride + block * kWidth
                              : s.bias + block * kWidth;
    LSTM_EXT_UNROLL
    for (int j = 0; j < kNumGates; ++j) {
      tile.sum[r][j] = V::load(start + j * V::kLanes) + tile.sum[r][j];
      if (!d.last) tile.sum[r][j].store(total + j * V::kLanes);
    }
  }
  if (!d.last) return;

  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    T* c = s.c + (row + r) * s.state_row_stride + unit;
    const CellGates<V> gates = activate_gates<V>(
        {tile.sum[r][kInput], tile.sum[r][kForget], tile.sum[r][kCandidate], tile.sum[r][kOutput]});
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

template <class V>
void step_tiles(const StepArgs<typename V::Scalar>& s, int64_t block,
                const DepthBlock<typename V::Scalar>& d) {
  const RowTiles tiles(s.rows, LSTM_EXT_TILE_ROWS);
  for (int64_t tile = 0; tile < tiles.count; ++tile) {
    const int64_t row = tiles.begin(tile);
    const auto* ahead = slice_ahead<V>(d.next, tile, d.depth);
    switch (tiles.begin(tile + 1) - row) {
      case 1:
        step_tile<V, 1>(s, row, block, d, ahead);
        break;
      case 2:
        step_tile<V, 2>(s, row, block, d, ahead);
        break;
      case 3:
        step_tile<V, 3>(s, row, block, d, ahead);
        break;
#if LSTM_EXT_TILE_ROWS > 3
      case 4:
        step_tile<V, 4>(s, row, block, d, ahead);
        break;
      case 5:
        step_tile<V, 5>(s, row, block, d, ahead);
        break;
      case 6:
        step_tile<V, 6>(s, row, block, d, ahead);
        break;
#endif
    }
  }
}

template <class V>
void step(const StepArgs<typename V::Scalar>& s) {
  constexpr int64_t kWidth = kNumGates * V::kLanes;
  for (int64_t block = s.block_begin; block < s.block_end; ++block) {
    for (int i = 0; i < s.num_operands; ++i) {
      const auto& operand = s.operands[i];
      const auto& after = s.operands[i + 1 < s.num_operands ? i + 1 : 0];
      const auto* next =
          after.panels + (i + 1 < s.num_operands ? block : block + 1) * after.k * kWidth;
      for (int64_t k0 = 0; k0 < operand.k; k0 += kDepthBlock) {
        const int64_t depth = min64(operand.k - k0, kDepthBlock);
        const bool ends = k0 + depth == operand.k;
        step_tiles<V>(s, block,
                      {&operand, k0, depth, i == 0 && k0 == 0, ends && i + 1 == s.num_operands,
                       ends ? next : operand.panels + (block * operand.k + k0 + depth) * kWidth});
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
