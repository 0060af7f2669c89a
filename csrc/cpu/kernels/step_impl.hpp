// A step's product with the gates behind it, and the elementwise part of a backward step. Included
// after tile_impl.hpp.

// A block of one operand's k, and its place in the sum.
template <class W>
struct DepthBlock {
  const StepOperand<typename W::Format>* operand;
  int64_t k0, depth;
  bool first, last;
  const typename W::Weight* own;   // of the panel, or of the first of them
  const typename W::Weight* next;  // the panel block that follows
};

// z of R rows and P blocks of units, from `block` on: a part of its sum is done, and at its end the
// gates are made.
template <class W, int R, int P>
LSTM_EXT_INLINE void finish_step_tile(const StepArgs<typename W::Format>& s, int64_t row,
                                      int64_t block, const DepthBlock<W>& d,
                                      const Tile<W, R, P * kNumGates>& tile) {
  using V = typename W::Vector;
  using T = Value<W>;
  constexpr int kWidth = kNumGates * V::kLanes;
  V z[R][P * kNumGates];
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    T* total = s.totals + (row + r) * P * kWidth;
    const T* start = !d.first ? total
                     : s.z    ? s.z + (row + r) * s.z_row_stride + block * kWidth
                              : s.bias + block * kWidth;
    LSTM_EXT_UNROLL
    for (int j = 0; j < P * kNumGates; ++j) {
      z[r][j] = V::load(start + j * V::kLanes) + W::total(tile.sum[r][j], d.operand->scales, d.k0,
                                                          row + r, block * kWidth + j * V::kLanes);
      if (!d.last) z[r][j].store(total + j * V::kLanes);
    }
  }
  if (!d.last) return;
  const int64_t unit = block * V::kLanes;
  if (s.variant) return finish_variants<V, R, P>(s, row, unit, z[0]);
  if constexpr (R <= W::kTileRows) {
    finish_cells<false, V, R, P>(s, row, unit, z[0]);
  } else {
    finish_in_pairs<false, V, R>(s, row, unit, z[0]);
  }
}

template <class W, int R, int P>
void step_tile(const StepArgs<typename W::Format>& s, int64_t row, int64_t block,
               const DepthBlock<W>& d, const typename W::Weight* ahead) {
  using V = typename W::Vector;
  constexpr int kWidth = kNumGates * V::kLanes;
  const auto& operand = *d.operand;
  const int64_t panel_size = padded_depth<W>(operand.k) * kWidth;
  constexpr int64_t kUnit = sizeof(typename W::Activation) / sizeof(*operand.a);
  Tile<W, R, P * kNumGates> tile;
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < P * kNumGates; ++j) {
      tile.sum[r][j] = W::start(operand.scales, d.k0, block * kWidth + j * V::kLanes);
    }
  }
  multiply_tile<W, R, kNumGates, P>(
      tile,
      reinterpret_cast<const typename W::Activation*>(operand.a + row * operand.a_row_stride) +
          d.k0,
      operand.a_row_stride / kUnit, W::kGroup, d.own, kWidth, panel_size, groups_in<W>(d.depth),
      ahead);
  finish_step_tile<W, R, P>(s, row, block, d, tile);
}

// `step_tiles` for W with registers of tiles: tiles_amx.hpp.
template <class W>
void step_register_tiles(const StepArgs<typename W::Format>& s, int64_t block,
                         const DepthBlock<W>& d);

// All rows, `blocks` blocks of units.
template <class W>
void step_tiles(const StepArgs<typename W::Format>& s, int64_t block, int64_t blocks,
                const DepthBlock<W>& d) {
  const RowCut<W, kNumGates> tiles(s.rows);
  for (int64_t tile = 0; tile < tiles.count; ++tile) {
    const int64_t row = tiles.begin(tile);
    const auto* ahead = slice_ahead<W>(d.next, tile, d.depth);
    switch (tiles.length(tile)) {
      case 1:
        if (blocks == 2) {
          step_tile<W, 1, 2>(s, row, block, d, ahead);
        } else {
          step_tile<W, 1, 1>(s, row, block, d, ahead);
        }
        break;
      case 2:
        step_tile<W, 2, 1>(s, row, block, d, ahead);
        break;
      case 3:
        if constexpr (W::kMostRows >= 3) step_tile<W, 3, 1>(s, row, block, d, ahead);
        break;
      case 4:
        if constexpr (W::kMostRows >= 4) step_tile<W, 4, 1>(s, row, block, d, ahead);
        break;
      case 5:
        if constexpr (W::kMostRows >= 5) step_tile<W, 5, 1>(s, row, block, d, ahead);
        break;
      case 6:
        if constexpr (W::kMostRows >= 6) step_tile<W, 6, 1>(s, row, block, d, ahead);
        break;
    }
  }
}

// With two high tiles of rows or more the panel is widened once for all of them.
template <class W>
void step_widened(const StepArgs<typename W::Format>& s, int64_t block, int64_t blocks,
                  const DepthBlock<W>& d) {
  if (!s.wide || s.rows < 2 * W::kTileRows) return step_tiles<W>(s, block, blocks, d);
  W::widen(d.own, groups_in<W>(d.depth) * kNumGates * W::Vector::kLanes, d.next, s.wide);
  step_tiles<typename W::Wide>(s, block, blocks,
                               {d.operand, d.k0, d.depth, d.first, d.last, s.wide, s.wide});
}

template <class W>
void step(const StepArgs<typename W::Format>& s) {
  constexpr int64_t kDepth = Format<typename W::Format>::kDepthBlock;
  constexpr int64_t kWidth = kNumGates * W::Vector::kLanes;
  int64_t k = 0;
  for (int op = 0; op < s.num_operands; ++op) k += s.operands[op].k;
  if constexpr (W::kRegisterTiles) {
    if (s.rows < W::kLeastRows || k < W::kLeastDepth) return step<typename W::Little>(s);
  }
  [[maybe_unused]] const typename W::Mode mode(s.rows);
  const EvenParts groups(s.block_end - s.block_begin, panels_at_once<W>(s.rows, k));
  for (int64_t i = 0; i < groups.count; ++i) {
    const auto begin = [&](int64_t of) {
      return s.block_begin + groups.begin(s.descending ? groups.count - 1 - of : of);
    };
    const int64_t block = begin(i);
    const int64_t block_after = i + 1 < groups.count ? begin(i + 1)
                                : s.block_after >= 0 ? s.block_after
                                                     : block;
    const int64_t blocks = groups.length(s.descending ? groups.count - 1 - i : i);
    for (int op = 0; op < s.num_operands; ++op) {
      const auto& operand = s.operands[op];
      const bool is_last = op + 1 == s.num_operands;
      const auto& after = s.operands[is_last ? 0 : op + 1];
      const auto* next =
          after.panels + (is_last ? block_after : block) * padded_depth<W>(after.k) * kWidth;
      const auto* panel = operand.panels + block * padded_depth<W>(operand.k) * kWidth;
      for (int64_t k0 = 0; k0 < operand.k; k0 += kDepth) {
        const int64_t depth = min64(operand.k - k0, kDepth);
        const bool ends = k0 + depth == operand.k;
        const DepthBlock<W> d{&operand,
                              k0,
                              depth,
                              op == 0 && k0 == 0,
                              ends && is_last,
                              panel + k0 * kWidth,
                              ends ? next : panel + (k0 + depth) * kWidth};
        if constexpr (W::kRegisterTiles) {
          step_register_tiles<W>(s, block, d);
        } else if constexpr (W::kWidensOnce) {
          step_widened<W>(s, block, blocks, d);
        } else {
          step_tiles<W>(s, block, blocks, d);
        }
      }
    }
  }
}

// ---- backward step, elementwise ----

template <class V>
void cell_backward(const CellBackwardArgs<typename V::Scalar>& b) {
  if (b.variant) return variant_cell_backward<V>(b);
  const V one = V::broadcast(1);
  for (int64_t row = 0; row < b.rows; ++row) {
    for (int64_t unit = b.unit_begin; unit < b.unit_end; unit += V::kLanes) {
      const CellInputs<V> in(b, row, unit);
      const CellGradient<V> d =
          lstm_ext::cell_backward<V>(in.gates, in.c, in.c_prev, in.d_h, in.d_c, one);
      in.store(b, row, unit, d);
    }
  }
}
