// Products of small weights by AMX. Its eight registers hold tiles of 16 rows of 64 bytes: a row of
// sums for 16 units, a row of activations over 32 or 64 k, or a group of k for 16 units, as panels
// hold it. Included after small_weights.hpp.

// Rows are cut into tiles of one height, so that one configuration of the registers does for all of
// them: the last may begin before the one before it ends. Their sums are the same both times.
struct RowTiles {
  static constexpr int64_t kHighest = 16;
  int64_t rows, count, height;
  explicit RowTiles(int64_t rows_)
      : rows(rows_),
        count((rows_ + kHighest - 1) / kHighest),
        height(count > 0 ? (rows_ + count - 1) / count : 0) {}
  int64_t begin(int64_t tile) const { return min64(tile * height, rows - height); }
  int64_t end(int64_t tile) const { return begin(tile) + height; }
};

// Registers 0 to 3 are sums, 4 and 5 activations, 6 and 7 weights.
class TileRegisters {
 public:
  explicit TileRegisters(int64_t rows) {
    Configuration configuration{};
    configuration.palette = 1;
    for (int i = 0; i < 8; ++i) {
      configuration.row_bytes[i] = 64;
      configuration.rows[i] =
          static_cast<uint8_t>(i < 6 ? RowTiles(rows).height : RowTiles::kHighest);
    }
    // GCC's intrinsic says that it reads a pointer's worth of this.
    __asm__ volatile("" : : "r"(&configuration) : "memory");
    _tile_loadconfig(&configuration);
  }
  // Tiles in use are saved at every change of context.
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;

 private:
  struct Configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
};

// For products that would leave most of a tile empty: bfloat16 widened, int8 by VNNI.
struct LittleBfloat16 : WidenedBfloat16 {
  using Activation = uint16_t;
  static constexpr int kMultiple = 32;

  template <int R>
  struct SpanRows {
    static constexpr int64_t row_stride = 2 * kSpan;
    alignas(64) float rows[R * row_stride];
    SpanRows(const Activation* a, int64_t stride) {
      LSTM_EXT_UNROLL
      for (int r = 0; r < R; ++r) {
        for (int64_t k = 0; k < row_stride; k += F32::kLanes) {
          const __m256i* const in = reinterpret_cast<const __m256i*>(a + r * stride + k);
          _mm512_store_si512(rows + r * row_stride + k,
                             _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(in)), 16));
        }
      }
    }
  };
};

struct LittleInt8 : DotInt8 {
  static constexpr int kMultiple = 64;
};

struct TiledBfloat16 : Bfloat16Sums {
  using Activation = uint16_t;
  using Number = float;
  using Little = LittleBfloat16;
  struct Mode : FlushDenormals, TileRegisters {
    explicit Mode(int64_t rows) : TileRegisters(rows) {}
  };
  static constexpr bool kRegisterTiles = true;
  static constexpr int64_t kLeastRows = 2, kLeastDepth = 64;
  static constexpr int kMultiple = Little::kMultiple;
  static constexpr int kRowsAtOnce = 4;

  static Sum sum(const Number* sums, const Scales<Format>&, int64_t, int64_t) {
    return F32::load(sums);
  }
};

struct TiledInt8 : Int8Sums {
  using Activation = uint8_t;
  using Number = int32_t;
  using Little = LittleInt8;
  using Mode = TileRegisters;
  static constexpr bool kRegisterTiles = true;
  static constexpr int64_t kLeastRows = 8, kLeastDepth = 256;
  static constexpr int kGroup = Little::kGroup;
  static constexpr int kMultiple = Little::kMultiple;
  static constexpr int kOffset = Little::kOffset;

  static Sum sum(const Number* sums, const Scales<Format>& scales, int64_t k0, int64_t column) {
    const I32 begin = start(scales, k0, column);
    return {(Int32Lanes)_mm512_add_epi32((__m512i)begin.v, _mm512_load_si512(sums))};
  }
};

// Sums of up to two tiles of rows: [row][gate][lane].
template <class W>
struct TileSums {
  static constexpr int64_t kWidth = kNumGates * F32::kLanes;
  alignas(64) typename W::Number data[2 * RowTiles::kHighest * kWidth];

  const typename W::Number* row(int64_t index) const { return data + index * kWidth; }
  typename W::Number* row(int64_t index) { return data + index * kWidth; }
};

// Registers are named by literals.
#define LSTM_EXT_ADD_PRODUCT(sums, a, b) \
  if constexpr (W::kGroup == 4) {        \
    _tile_dpbusd(sums, a, b);            \
  } else {                               \
    _tile_dpbf16ps(sums, a, b);          \
  }

// One tile of rows by the four vectors of a panel, over `depth` k.
template <class W>
void multiply_tile(TileSums<W>& sums, const unsigned char* a, int64_t row_stride,
                   const typename W::Weight* panel, int64_t depth) {
  constexpr int64_t kRow = kNumGates * 64, kVector = 64 / sizeof(typename W::Weight);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < depth; k += W::kMultiple, a += 64, panel += 16 * kNumGates * kVector) {
    _tile_loadd(4, a, row_stride);
    _tile_loadd(6, panel, kRow);
    LSTM_EXT_ADD_PRODUCT(0, 4, 6)
    _tile_loadd(7, panel + kVector, kRow);
    LSTM_EXT_ADD_PRODUCT(1, 4, 7)
    _tile_loadd(6, panel + 2 * kVector, kRow);
    LSTM_EXT_ADD_PRODUCT(2, 4, 6)
    _tile_loadd(7, panel + 3 * kVector, kRow);
    LSTM_EXT_ADD_PRODUCT(3, 4, 7)
  }
  _tile_stored(0, sums.row(0), kRow);
  _tile_stored(1, sums.row(0) + F32::kLanes, kRow);
  _tile_stored(2, sums.row(0) + 2 * F32::kLanes, kRow);
  _tile_stored(3, sums.row(0) + 3 * F32::kLanes, kRow);
}

// Two tiles of rows, `distance` rows apart, by two vectors of a panel, the first of which is
// `vector`: weights that come from the second-level cache are read once for both. Fetches a quarter
// of a panel, from `ahead` on.
template <class W>
void multiply_two_tiles(TileSums<W>& sums, int vector, int64_t distance, const unsigned char* a,
                        int64_t row_stride, const typename W::Weight* panel, int64_t depth,
                        const typename W::Weight* ahead) {
  constexpr int64_t kRow = kNumGates * 64, kVector = 64 / sizeof(typename W::Weight);
  constexpr int kFetchedLines = 16;
  const unsigned char* lower = a + distance * row_stride;
  panel += vector * kVector;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < depth; k += W::kMultiple) {
    _tile_loadd(4, a, row_stride);
    _tile_loadd(5, lower, row_stride);
    _tile_loadd(6, panel, kRow);
    _tile_loadd(7, panel + kVector, kRow);
    LSTM_EXT_ADD_PRODUCT(0, 4, 6)
    LSTM_EXT_ADD_PRODUCT(1, 4, 7)
    LSTM_EXT_ADD_PRODUCT(2, 5, 6)
    LSTM_EXT_ADD_PRODUCT(3, 5, 7)
    for (int line = 0; line < kFetchedLines; ++line, ahead += kVector) LSTM_EXT_PREFETCH(ahead);
    a += 64;
    lower += 64;
    panel += 16 * kNumGates * kVector;
  }
  typename W::Number* const out = sums.row(0) + vector * F32::kLanes;
  _tile_stored(0, out, kRow);
  _tile_stored(1, out + F32::kLanes, kRow);
  _tile_stored(2, out + distance * TileSums<W>::kWidth, kRow);
  _tile_stored(3, out + distance * TileSums<W>::kWidth + F32::kLanes, kRow);
}

#undef LSTM_EXT_ADD_PRODUCT

// All rows by one panel. finish(row, count, sums) gets the sums of `count` rows from `row` on.
// `ahead` is the panel that comes next; 33 rows or more fetch all of it.
template <class W, class Finish>
void multiply_row_tiles(int64_t rows, const unsigned char* a, int64_t row_stride,
                        const typename W::Weight* panel, int64_t depth,
                        const typename W::Weight* ahead, const Finish& finish) {
  constexpr int64_t kQuarter = kNumGates * F32::kLanes / 4;  // of a panel, for one k
  const RowTiles tiles(rows);
  TileSums<W> sums;
  int64_t done = 0;
  for (int64_t tile = 0; tile < tiles.count; tile += 2) {
    const int64_t begin = tiles.begin(tile);
    int64_t end = tiles.end(tile);
    if (tile + 1 < tiles.count) {
      const int64_t distance = tiles.begin(tile + 1) - begin;
      end = tiles.end(tile + 1);
      for (int vector = 0; vector < kNumGates; vector += 2) {
        multiply_two_tiles<W>(sums, vector, distance, a + begin * row_stride, row_stride, panel,
                              depth, ahead + (tile + vector / 2) % 4 * depth * kQuarter);
      }
    } else {
      multiply_tile<W>(sums, a + begin * row_stride, row_stride, panel, depth);
    }
    finish(done, end - done, sums.row(done - begin));
    done = end;
  }
}

// R rows of sums over the k from k0 on, for the columns from `column` on.
template <class W, int R>
LSTM_EXT_INLINE Tile<W, R, kNumGates> tile_of(const typename W::Number* sums,
                                              const Scales<typename W::Format>& scales, int64_t k0,
                                              int64_t column) {
  Tile<W, R, kNumGates> tile;
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < kNumGates; ++j) {
      tile.sum[r][j] = W::sum(sums + r * TileSums<W>::kWidth + j * F32::kLanes, scales, k0,
                              column + j * F32::kLanes);
    }
  }
  return tile;
}

// Whole panels only: c has at least a vector of the columns.
template <class W>
void gemm_register_tiles(const GemmArgs<typename W::Format>& g, int64_t panel, int64_t k0,
                         int64_t depth) {
  const int64_t column = panel * g.panel_width, panel_size = padded_depth<W>(g.k) * g.panel_width;
  constexpr int64_t kBytes = sizeof(typename W::Activation);
  const auto* const own = g.panels + panel * panel_size + k0 * g.panel_width;
  const auto* const ahead = !g.descending ? own + panel_size : panel > 0 ? own - panel_size : own;
  multiply_row_tiles<W>(
      g.m, g.a + k0 * kBytes, g.a_row_stride, own, depth, ahead,
      [&](int64_t row, int64_t count, const typename W::Number* sums) {
        for (int64_t r = 0; r < count; ++r) {
          finish_gemm_tile<W, 1, kNumGates, 1>(
              g, row + r, column, k0,
              tile_of<W, 1>(sums + r * TileSums<W>::kWidth, g.scales, k0, column));
        }
      });
}

template <class W>
void finish_rows(const StepArgs<typename W::Format>& s, int64_t row, int64_t rows, int64_t block,
                 const DepthBlock<W>& d, const typename W::Number* sums) {
  const auto& scales = d.operand->scales;
  const int64_t column = block * TileSums<W>::kWidth;
  switch (rows) {
    case 1:
      return finish_step_tile<W, 1, 1>(s, row, block, d, tile_of<W, 1>(sums, scales, d.k0, column));
    case 2:
      return finish_step_tile<W, 2, 1>(s, row, block, d, tile_of<W, 2>(sums, scales, d.k0, column));
    case 3:
      return finish_step_tile<W, 3, 1>(s, row, block, d, tile_of<W, 3>(sums, scales, d.k0, column));
    default:
      return finish_step_tile<W, 4, 1>(s, row, block, d, tile_of<W, 4>(sums, scales, d.k0, column));
  }
}

template <class W>
void step_register_tiles(const StepArgs<typename W::Format>& s, int64_t block,
                         const DepthBlock<W>& d) {
  const auto& operand = *d.operand;
  constexpr int64_t kWidth = TileSums<W>::kWidth, kBytes = sizeof(typename W::Activation);
  multiply_row_tiles<W>(
      s.rows, operand.a + d.k0 * kBytes, operand.a_row_stride,
      operand.panels + block * padded_depth<W>(operand.k) * kWidth + d.k0 * kWidth, d.depth, d.next,
      [&](int64_t row, int64_t count, const typename W::Number* sums) {
        // As many cells at once as hide each other's latency.
        const EvenParts parts(count, 4);
        for (int64_t part = 0; part < parts.count; ++part) {
          const int64_t first = parts.begin(part);
          finish_rows<W>(s, row + first, parts.length(part), block, d, sums + first * kWidth);
        }
      });
}
