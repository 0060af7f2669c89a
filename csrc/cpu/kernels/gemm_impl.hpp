// The product of a whole matrix, a tile after the other. Included after tile_impl.hpp.

// Adds sums to what c starts from. The columns from `column` on.
template <class W, int R, int N, int P>
LSTM_EXT_INLINE void finish_gemm_tile(const GemmArgs<typename W::Format>& g, int64_t row,
                                      int64_t column, int64_t k0, const Tile<W, R, P * N>& tile) {
  using V = typename W::Vector;
  using T = Value<W>;
  const bool from_c = g.accumulate || k0 > 0;
  const int columns = static_cast<int>(min64(g.n - column, P * N * V::kLanes));
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    T* c = g.c + (row + r) * g.c_row_stride + column;
    LSTM_EXT_UNROLL
    for (int j = 0; j < P * N; ++j) {
      const int offset = j * V::kLanes;
      const T* start = from_c ? c + offset : g.bias ? g.bias + column + offset : nullptr;
      V total = W::total(tile.sum[r][j], g.scales, k0, row + r, column + offset);
      if (start) total = load_first<V>(start, columns - offset) + total;
      store_first(total, c + offset, columns - offset);
    }
  }
}

// A block of k of P panels, the first of which is `panel` and lies at `own`.
template <class W, int R, int N, int P>
void gemm_tile(const GemmArgs<typename W::Format>& g, int64_t row, int64_t panel,
               const typename W::Weight* own, int64_t k0, int64_t depth,
               const typename W::Weight* ahead) {
  using V = typename W::Vector;
  using T = Value<W>;
  const auto* a = reinterpret_cast<const typename W::Activation*>(
      g.a + row * g.a_row_stride + k0 / W::kGroup * g.a_column_stride);
  const int64_t column = panel * g.panel_width;
  const int64_t panel_size = padded_depth<W>(g.k) * g.panel_width;
  const bool from_c = g.accumulate || k0 > 0;
  // A large c lies far away, and is wanted as soon as the sums are done.
  if (from_c && R >= 3) {
    for (int r = 0; r < R; ++r) {
      const T* c = g.c + (row + r) * g.c_row_stride + column;
      LSTM_EXT_UNROLL
      for (int j = 0; j < P * N; ++j) LSTM_EXT_PREFETCH_TO_WRITE(c + j * V::kLanes);
    }
  }
  Tile<W, R, P * N> tile;
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < P * N; ++j) tile.sum[r][j] = W::start(g.scales, k0, column + j * V::kLanes);
  }
  constexpr int64_t kUnit = sizeof(typename W::Activation) / sizeof(*g.a);
  multiply_tile<W, R, N, P>(tile, a, g.a_row_stride / kUnit, g.a_column_stride / kUnit, own,
                            g.panel_width, panel_size, groups_in<W>(depth), ahead);
  finish_gemm_tile<W, R, N, P>(g, row, column, k0, tile);
}

template <class W, int N>
void gemm_tile_of_rows(const GemmArgs<typename W::Format>& g, int64_t row, int64_t panel,
                       const typename W::Weight* own, int64_t k0, int64_t depth,
                       const typename W::Weight* ahead, int64_t rows, int64_t panels) {
  constexpr int kMost = RowCut<W, N>::kMostRows;
  switch (rows) {
    case 1:
      if (N == kPanelVectors && panels == 2) {
        return gemm_tile<W, 1, N, 2>(g, row, panel, own, k0, depth, ahead);
      }
      return gemm_tile<W, 1, N, 1>(g, row, panel, own, k0, depth, ahead);
    case 2:
      return gemm_tile<W, 2, N, 1>(g, row, panel, own, k0, depth, ahead);
    case 3:
      if constexpr (kMost >= 3) gemm_tile<W, 3, N, 1>(g, row, panel, own, k0, depth, ahead);
      return;
    case 4:
      if constexpr (kMost >= 4) gemm_tile<W, 4, N, 1>(g, row, panel, own, k0, depth, ahead);
      return;
    case 5:
      if constexpr (kMost >= 5) gemm_tile<W, 5, N, 1>(g, row, panel, own, k0, depth, ahead);
      return;
    case 6:
      if constexpr (kMost >= 6) gemm_tile<W, 6, N, 1>(g, row, panel, own, k0, depth, ahead);
      return;
  }
}

// `gemm_panels` for W with registers of tiles: tiles_amx.hpp.
template <class W>
void gemm_register_tiles(const GemmArgs<typename W::Format>& g, int64_t panel, int64_t k0,
                         int64_t depth);

template <int N>
struct Vectors {
  static constexpr int count = N;
};

// All rows, `count` panels that lie at `own`, one block of k; next: the block that follows.
template <class W>
void gemm_row_tiles(const GemmArgs<typename W::Format>& g, int64_t panel, int64_t count,
                    const typename W::Weight* own, int64_t k0, int64_t depth,
                    const typename W::Weight* next) {
  const auto multiply_rows = [&](auto vectors) {
    const RowCut<W, vectors.count> tiles(g.m);
    for (int64_t tile = 0; tile < tiles.count; ++tile) {
      const auto* ahead = slice_ahead<W>(next, tile, depth);
      gemm_tile_of_rows<W, vectors.count>(g, tiles.begin(tile), panel, own, k0, depth, ahead,
                                          tiles.length(tile), count);
    }
  };
  if constexpr (Format<typename W::Format>::kEncodes) {
    multiply_rows(Vectors<kPanelVectors>{});  // panels of gates, which are whole
  } else {
    constexpr int64_t kLanes = W::Vector::kLanes;
    const int64_t width = min64(g.n - panel * g.panel_width, g.panel_width);
    switch ((width + kLanes - 1) / kLanes) {
      case 1:
        return multiply_rows(Vectors<1>{});
      case 2:
        return multiply_rows(Vectors<2>{});
      case 3:
        return multiply_rows(Vectors<3>{});
      default:
        return multiply_rows(Vectors<4>{});
    }
  }
}

// The same of panels as they were packed.
template <class W>
void gemm_panels(const GemmArgs<typename W::Format>& g, int64_t panel, int64_t count, int64_t k0,
                 int64_t depth) {
  const auto at = [&](int64_t of) {
    return g.panels + (of * padded_depth<W>(g.k) + k0) * g.panel_width;
  };
  const auto* const next = at(!g.descending ? panel + count : panel > 0 ? panel - 1 : 0);
  if constexpr (W::kWidensOnce) {
    if (g.wide && g.m >= 2 * W::kTileRows) {
      W::widen(at(panel), groups_in<W>(depth) * g.panel_width, next, g.wide);
      return gemm_row_tiles<typename W::Wide>(g, panel, count, g.wide, k0, depth, g.wide);
    }
  }
  gemm_row_tiles<W>(g, panel, count, at(panel), k0, depth, next);
}

// With several tiles of rows, blocks of k are outermost and panels next: a panel's block stays in
// the cache for all tiles. A single tile reads each panel once, from its first k to its last.
template <class W>
void gemm(const GemmArgs<typename W::Format>& g) {
  if constexpr (W::kRegisterTiles) {
    if (g.m < W::kLeastRows || g.k < W::kLeastDepth) return gemm<typename W::Little>(g);
  }
  constexpr int64_t kDepth = Format<typename W::Format>::kDepthBlock;
  constexpr int64_t kLanes = W::Vector::kLanes;
  [[maybe_unused]] const typename W::Mode mode(g.m);
  // Panels with all their vectors in use may be multiplied several at once.
  const bool wide = g.panel_width == kPanelVectors * kLanes;
  const int64_t full = wide ? (g.n + kLanes - 1) / g.panel_width : 0;
  const EvenParts groups(full, panels_at_once<W>(g.m, g.k));
  const int64_t columns = groups.count + (g.n + g.panel_width - 1) / g.panel_width - full;
  const int64_t blocks = g.k > 0 ? (g.k + kDepth - 1) / kDepth : 1;
  const bool one_tile = g.m <= W::kMostRows;
  for (int64_t i = 0; i < columns * blocks; ++i) {
    const int64_t block = one_tile ? i % blocks : i / columns;
    const int64_t index = one_tile ? i / blocks : i % columns;
    const int64_t group = g.descending ? columns - 1 - index : index;
    const int64_t k0 = block * kDepth, depth = min64(g.k - k0, kDepth);
    if constexpr (W::kRegisterTiles) {
      gemm_register_tiles<W>(g, group, k0, depth);
    } else if (group < groups.count) {
      gemm_panels<W>(g, groups.begin(group), groups.length(group), k0, depth);
    } else {
      gemm_panels<W>(g, full + group - groups.count, 1, k0, depth);
    }
  }
}
