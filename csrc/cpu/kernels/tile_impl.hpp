// A tile of the product, once, for any vector type V and any weights W: how a format's values are
// loaded and multiplied. Included inside the anonymous namespace of one kernel file, after its
// vectors and math.hpp. No standard library here: see README.md.

// Weights as they are, float or double. What other W offer too:
//   Factor    an activation, or a group of them, broadcast
//   Loaded    a vector of weights, or of groups of them
//   kGroup    how many k lie side by side and are multiplied at once
//   kVector   from a loaded vector of a panel to the next, in weights
//   kMultiple what k is filled up to with zeros, in panels and in encoded activations
//   kSpan     so many groups have sums of their own: see multiply_spans in small_weights.hpp; or 0
//   kTileRows the greatest height of a tile whose sums and factors the registers hold
//   kMostRows the greatest height of any: those above it are computed by halves of a panel
//   kColumnsFirst   which is loaded once a group, and which again and again: the rows' factors, or
//             the panel's vectors
//   kFetches  how many lines of the next panel are fetched in kUnrolled groups: as many as the
//             multiply-adds of that time leave room for, by tiles of kFetchVectors vectors
//   kRegisterTiles  whether the processor's registers are tiles: see tiles_amx.hpp. Products of
//             less than kLeastRows or kLeastDepth are then left to Little, for the same panels
//   kWidensOnce   whether high batches read a panel's block as W::Wide, which W::widen makes
//   Mode      the state of the processor while it lives, for products of so many rows
//   start     what a sum over k from k0 on begins with, for the columns from `column` on
//   total     such a sum, finished, as values
constexpr int kUnrolled = 2;  // so many groups of k in a pass of the innermost loop

struct UsualMode {
  explicit UsualMode(int64_t) {}
};

template <class V>
struct Values {
  using Format = typename V::Scalar;
  using Vector = V;
  using Activation = typename V::Scalar;
  using Weight = typename V::Scalar;
  using Factor = V;
  using Loaded = V;
  using Sum = V;
  using Mode = UsualMode;
  static constexpr bool kRegisterTiles = false;
  static constexpr bool kWidensOnce = false;
  static constexpr int kGroup = 1;
  static constexpr int kVector = V::kLanes;
  static constexpr int kMultiple = 1;
  static constexpr int kSpan = 0;
  static constexpr int kTileRows = LSTM_EXT_TILE_ROWS;
  static constexpr int kMostRows = LSTM_EXT_MOST_ROWS;
  static constexpr bool kColumnsFirst = LSTM_EXT_TILE_ROWS < kPanelVectors;
  static constexpr int kFetches = LSTM_EXT_TILE_ROWS < kPanelVectors ? 1 : kUnrolled;
  static constexpr int kFetchVectors = kPanelVectors;

  static Sum start(const Scales<Format>&, int64_t, int64_t) { return V::broadcast(0); }
  static Factor broadcast(const Activation* a) { return V::broadcast(*a); }
  static Loaded load(const Weight* panel) { return V::load(panel); }
  static Sum multiply_add(Factor a, Loaded b, Sum sum) { return fma(a, b, sum); }
  static V total(Sum sum, const Scales<Format>&, int64_t, int64_t, int64_t) { return sum; }
};

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

template <class W>
using Value = typename Format<typename W::Format>::Value;

template <class W, int R, int N>
struct Tile {
  typename W::Sum sum[R][N];
};

// How many panels stand side by side in a tile. A row alone has four sums, too few to hide the
// latency of its multiply-adds behind each other. Only where full-size weights fill 64-byte vectors
// do these few outrun the second-level cache: longer panels are then better read one by one, so
// that going back through them (`descending`) begins with more of them in the first.
template <class W>
int64_t panels_at_once(int64_t rows, int64_t k) {
  using V = typename W::Vector;
  if constexpr (W::kRegisterTiles) return 1;
  constexpr int64_t kWeight = sizeof(typename W::Weight), kScalar = sizeof(typename V::Scalar);
  constexpr bool kOutrunsCache = V::kLanes * kScalar == 64 && kWeight == kScalar;
  constexpr int64_t kPair = 2 * kPanelVectors * V::kLanes * kWeight;
  return rows == 1 && (!kOutrunsCache || k * kPair <= (32 << 10)) ? 2 : 1;
}

// sum += a's group of each row · that of P panels (N vectors each), `panel_size` apart.
template <class W, int R, int N, int P>
LSTM_EXT_INLINE void multiply_group(typename W::Sum (&sum)[R][P * N],
                                    const typename W::Activation* a, int64_t row_stride,
                                    const typename W::Weight* panels, int64_t panel_size) {
  constexpr int kVector = W::kVector;
  if constexpr ((W::kColumnsFirst && R <= W::kTileRows) || P > 1) {
    typename W::Factor ar[R];
    LSTM_EXT_UNROLL
    for (int r = 0; r < R; ++r) ar[r] = W::broadcast(a + r * row_stride);
    LSTM_EXT_UNROLL
    for (int j = 0; j < P * N; ++j) {
      const typename W::Loaded b = W::load(panels + j / N * panel_size + j % N * kVector);
      LSTM_EXT_UNROLL
      for (int r = 0; r < R; ++r) sum[r][j] = W::multiply_add(ar[r], b, sum[r][j]);
    }
  } else {
    typename W::Loaded b[N];
    LSTM_EXT_UNROLL
    for (int j = 0; j < N; ++j) b[j] = W::load(panels + j * kVector);
    LSTM_EXT_UNROLL
    for (int r = 0; r < R; ++r) {
      const typename W::Factor ar = W::broadcast(a + r * row_stride);
      LSTM_EXT_UNROLL
      for (int j = 0; j < N; ++j) sum[r][j] = W::multiply_add(ar, b[j], sum[r][j]);
    }
  }
}

// `multiply` for W with spans: small_weights.hpp.
template <class W, int R, int N, int P>
void multiply_spans(Tile<W, R, P * N>& tile, const typename W::Activation* a, int64_t row_stride,
                    const typename W::Weight* panels, int64_t panel_width, int64_t panel_size,
                    int64_t groups, const typename W::Weight* ahead);

// tile = a (R, k) · P panels (k, N vectors each), in the order of k; `groups` is k counted in
// groups, `panel_size` the distance from a panel to the next.
//
// `ahead` is what will be read next: lines of it are fetched on the way, so that the next panel
// comes from the second-level cache even when the weights lie in memory. High tiles only: low ones
// have no arithmetic to hide the fetches behind.
template <class W, int R, int N, int P>
LSTM_EXT_INLINE void multiply(Tile<W, R, P * N>& tile, const typename W::Activation* a,
                              int64_t row_stride, int64_t column_stride,
                              const typename W::Weight* panels, int64_t panel_width,
                              int64_t panel_size, int64_t groups, const typename W::Weight* ahead) {
  if constexpr (W::kSpan > 0) {
    return multiply_spans<W, R, N, P>(tile, a, row_stride, panels, panel_width, panel_size, groups,
                                      ahead);
  } else {
    constexpr int kLine = 64 / sizeof(typename W::Weight);
    constexpr bool kFetchesAhead = R >= 3 && P == 1 && N == W::kFetchVectors;
    typename W::Sum own[R][P * N];  // else compilers keep integer sums in memory
    LSTM_EXT_UNROLL
    for (int r = 0; r < R; ++r) {
      LSTM_EXT_UNROLL
      for (int j = 0; j < P * N; ++j) own[r][j] = tile.sum[r][j];
    }
    const int64_t group_size = panel_width * W::kGroup;
    int64_t p = 0;
    LSTM_EXT_KEEP_LOOP
    for (; p + kUnrolled <= groups; p += kUnrolled) {
      LSTM_EXT_UNROLL
      for (int u = 0; u < kUnrolled; ++u) {
        multiply_group<W, R, N, P>(own, a, row_stride, panels, panel_size);
        a += column_stride;
        panels += group_size;
        LSTM_EXT_UNROLL
        for (int fetch = u; kFetchesAhead && fetch < W::kFetches; fetch += kUnrolled) {
          LSTM_EXT_PREFETCH(ahead);
          ahead += kLine;
        }
      }
    }
    for (; p < groups; ++p) {
      multiply_group<W, R, N, P>(own, a, row_stride, panels, panel_size);
      a += column_stride;
      panels += group_size;
    }
    LSTM_EXT_UNROLL
    for (int r = 0; r < R; ++r) {
      LSTM_EXT_UNROLL
      for (int j = 0; j < P * N; ++j) tile.sum[r][j] = own[r][j];
    }
  }
}

// `multiply` for a tile of any height: a high one by halves of its panel, so that the sums of each
// stay in registers.
template <class W, int R, int N, int P, class... Rest>
LSTM_EXT_INLINE void multiply_tile(Tile<W, R, P * N>& tile, const typename W::Activation* a,
                                   int64_t row_stride, int64_t column_stride,
                                   const typename W::Weight* panels, Rest... rest) {
  if constexpr (R <= W::kTileRows) {
    multiply<W, R, N, P>(tile, a, row_stride, column_stride, panels, rest...);
  } else {
    constexpr int kHalf = N / 2;
    LSTM_EXT_KEEP_LOOP
    for (int first = 0; first < N; first += kHalf) {
      Tile<W, R, kHalf> half;
      LSTM_EXT_UNROLL
      for (int r = 0; r < R; ++r) {
        LSTM_EXT_UNROLL
        for (int j = 0; j < kHalf; ++j) half.sum[r][j] = tile.sum[r][first + j];
      }
      multiply<W, R, kHalf, 1>(half, a, row_stride, column_stride, panels + first * W::kVector,
                               rest...);
      LSTM_EXT_UNROLL
      for (int r = 0; r < R; ++r) {
        LSTM_EXT_UNROLL
        for (int j = 0; j < kHalf; ++j) tile.sum[r][first + j] = half.sum[r][j];
      }
    }
  }
}

template <class W>
constexpr int64_t padded_depth(int64_t k) {
  return (k + W::kMultiple - 1) / W::kMultiple * W::kMultiple;
}

template <class W>
constexpr int64_t groups_in(int64_t k) {
  return padded_depth<W>(k) / W::kGroup;
}

template <class V>
LSTM_EXT_INLINE V load_first(const typename V::Scalar* p, int n) {
  return n >= V::kLanes ? V::load(p) : V::load_partial(p, n);
}

template <class V>
LSTM_EXT_INLINE void store_first(V v, typename V::Scalar* p, int n) {
  n >= V::kLanes ? v.store(p) : v.store_partial(p, n);
}

// [0, size) cut into parts of nearly equal length, at most `longest`, so that no short remainder
// runs at a low rate.
struct EvenParts {
  int64_t size, count;
  EvenParts(int64_t size_, int64_t longest) : size(size_), count((size_ + longest - 1) / longest) {}
  int64_t begin(int64_t part) const { return size * part / count; }
  int64_t length(int64_t part) const { return begin(part + 1) - begin(part); }
};

// Rows cut into tiles of panels with N vectors. Where a low tile has too few sums to hide the
// latency of each behind the others, the last takes what would remain, and all others have the
// usual height.
template <class W, int N>
struct RowCut : EvenParts {
  static constexpr int kMostRows = N == kPanelVectors ? W::kMostRows : W::kTileRows;
  static constexpr bool kUneven = kMostRows > W::kTileRows;
  explicit RowCut(int64_t rows) : EvenParts(rows, W::kTileRows) {
    if (kUneven && rows >= W::kTileRows) count = rows / W::kTileRows;
  }
  int64_t begin(int64_t tile) const {
    if constexpr (!kUneven) return EvenParts::begin(tile);
    return tile == count ? size : tile * W::kTileRows;
  }
  int64_t length(int64_t tile) const { return begin(tile + 1) - begin(tile); }
};

// The part of the next panel block that row tile `tile` fetches: all tiles together fetch all of
// it, or as much as there are tiles.
template <class W>
const typename W::Weight* slice_ahead(const typename W::Weight* next, int64_t tile, int64_t depth) {
  constexpr int64_t kLine = 64 / sizeof(typename W::Weight);
  constexpr int64_t kLines = kPanelVectors * W::Vector::kLanes * W::kGroup / kLine;
  constexpr int64_t kSlices = kLines * kUnrolled / W::kFetches;  // of a group, and of a panel block
  return next + tile % (kSlices > 0 ? kSlices : 1) *
                    (groups_in<W>(depth) * kLine * W::kFetches / kUnrolled);
}
