// The cells of a step: where they read and write, forward and backward, how those of a tile are
// made from z, and the ones that are not plain. Included after tile_impl.hpp.

// Activations without vector code, one lane after the other.
template <class V>
V map_lanes(V z, double (*function)(double)) {
  typename V::Scalar lanes[V::kLanes];
  z.store(lanes);
  for (int i = 0; i < V::kLanes; ++i) {
    lanes[i] = static_cast<typename V::Scalar>(function(static_cast<double>(lanes[i])));
  }
  return V::load(lanes);
}

template <class V>
V softplus(V z) {
  return map_lanes(z, &scalar_softplus);
}

template <class V>
V gelu(V z) {
  return map_lanes(z, &scalar_gelu);
}

template <class V>
V gelu_slope(V z) {
  return map_lanes(z, &scalar_gelu_slope);
}

template <class V>
LSTM_EXT_INLINE void store_gates(const CellGates<V>& gates, typename V::Scalar* to, int64_t hidden,
                                 int units) {
  store_first(gates.input, to + kInput * hidden, units);
  store_first(gates.forget, to + kForget * hidden, units);
  store_first(gates.candidate, to + kCandidate * hidden, units);
  store_first(gates.output, to + kOutput * hidden, units);
}

template <class V>
LSTM_EXT_INLINE CellGates<V> load_gates(const typename V::Scalar* from, int64_t hidden, int units) {
  return {load_first<V>(from + kInput * hidden, units),
          load_first<V>(from + kForget * hidden, units),
          load_first<V>(from + kCandidate * hidden, units),
          load_first<V>(from + kOutput * hidden, units)};
}

// `kept`: what goes to s.gates.
template <class V>
LSTM_EXT_INLINE void store_cell(const CellArgs<typename V::Scalar>& s, int64_t row, int64_t unit,
                                const CellState<V>& state, const CellGates<V>& kept) {
  const int units = static_cast<int>(min64(s.hidden_size - unit, V::kLanes));
  state.c.store(s.c + row * s.state_row_stride + unit);
  state.h.store(s.h + row * s.state_row_stride + unit);
  if (s.output) store_first(state.h, s.output + row * s.output_row_stride + unit, units);
  if (s.gates) {
    const int64_t kept_row = row * s.kept_row_step * s.hidden_size;
    store_gates(kept, s.gates + kNumGates * kept_row + unit, s.hidden_size, units);
    store_first(state.c, s.cells + kept_row + unit, units);
  }
}

// The gates, c and h of R rows and P blocks of units, from z (R, P, 4), of plain cells and of those
// with peepholes. All gates first and then all h: the many short chains hide each other's latency,
// where a cell from end to end is one long chain.
template <bool kPeepholes, class V, int R, int P>
LSTM_EXT_INLINE void finish_cells(const CellArgs<typename V::Scalar>& s, int64_t row, int64_t unit,
                                  const V* z) {
  CellGates<V> gates[R][P];
  V c[R][P];
  const auto peephole = [&](int p, int part) {
    return V::load(s.variant->peephole + (unit + p * V::kLanes) * 3 + part * V::kLanes);
  };
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int p = 0; p < P; ++p) {
      const V* const from = z + (r * P + p) * kNumGates;
      CellGates<V> own{from[kInput], from[kForget], from[kCandidate], from[kOutput]};
      const V c_prev = V::load(s.c + (row + r) * s.state_row_stride + unit + p * V::kLanes);
      if constexpr (kPeepholes) {
        own.input = fma(peephole(p, 0), c_prev, own.input);
        own.forget = fma(peephole(p, 1), c_prev, own.forget);
      }
      gates[r][p] = activate_gates<V>(own);
      c[r][p] = next_cell<V>(gates[r][p], c_prev);
    }
  }
  LSTM_EXT_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_EXT_UNROLL
    for (int p = 0; p < P; ++p) {
      if constexpr (kPeepholes) {
        const V own = z[(r * P + p) * kNumGates + kOutput];
        gates[r][p].output = sigmoid(fma(peephole(p, 2), c[r][p], own));
      }
      store_cell<V>(s, row + r, unit + p * V::kLanes,
                    {cell_output<V>(gates[r][p], c[r][p]), c[r][p]}, gates[r][p]);
    }
  }
}

// Padded lanes of `keep` and of the peepholes are read, and c is then set to zero there: an
// activation need not leave zero at zero.
template <class V>
CellExtras<V> cell_extras(const CellVariant<typename V::Scalar>& variant,
                          const typename V::Scalar* keep, int units, int64_t unit) {
  using T = typename V::Scalar;
  const V zero = V::broadcast(0);
  CellExtras<V> extras{{zero, zero, zero, zero}, zero, false, false, false};
  if (variant.peephole) {
    const T* p = variant.peephole + unit * 3;
    extras.peephole = {V::load(p), V::load(p + V::kLanes), zero, V::load(p + 2 * V::kLanes)};
    extras.has_peephole = true;
  }
  if (keep) {
    extras.keep = load_first<V>(keep, units);
    extras.has_keep = true;
  } else if (variant.options->cell_zoneout > 0) {
    extras.keep = V::broadcast(static_cast<T>(variant.options->cell_zoneout));
    extras.has_keep = extras.shares = true;
  }
  return extras;
}

template <class A, class V>
LSTM_EXT_INLINE void finish_with(const CellArgs<typename V::Scalar>& s, int64_t row, int64_t unit,
                                 const V* z) {
  const int units = static_cast<int>(min64(s.hidden_size - unit, V::kLanes));
  const int64_t at = row * s.state_row_stride + unit;
  const CellExtras<V> extras =
      cell_extras<V>(*s.variant, s.keep ? s.keep + at : nullptr, V::kLanes, unit);
  const VariantStep<V> step =
      variant_forward<A, V>(*s.variant->options, extras,
                            {z[kInput], z[kForget], z[kCandidate], z[kOutput]}, V::load(s.c + at));
  store_cell<V>(s, row, unit, {step.h, step.c}, s.variant->keeps_z ? step.z : step.gates);
  if (units < V::kLanes) {
    load_first<V>(s.c + at, units).store(s.c + at);
    load_first<V>(s.h + at, units).store(s.h + at);
  }
}

// A function of its own, of two cells at most: the program would else grow by it for every tile.
template <bool kPeepholes, class V, int R, int P>
LSTM_EXT_NOINLINE void finish_few_cells(const CellArgs<typename V::Scalar>& s, int64_t row,
                                        int64_t unit, const V* z) {
  finish_cells<kPeepholes, V, R, P>(s, row, unit, z);
}

// `finish_cells` of R rows and one block of units, two cells at a time.
template <bool kPeepholes, class V, int R>
LSTM_EXT_INLINE void finish_in_pairs(const CellArgs<typename V::Scalar>& s, int64_t row,
                                     int64_t unit, const V* z) {
  for (int r = 0; r + 2 <= R; r += 2) {
    finish_few_cells<kPeepholes, V, 2, 1>(s, row + r, unit, z + r * kNumGates);
  }
  if constexpr (R % 2 == 1) {
    finish_few_cells<kPeepholes, V, 1, 1>(s, row + R - 1, unit, z + (R - 1) * kNumGates);
  }
}

template <class V>
LSTM_EXT_NOINLINE void finish_variant(const CellArgs<typename V::Scalar>& s, int64_t row,
                                      int64_t unit, const V* z) {
  if (s.variant->is_usual) {
    finish_with<UsualActivations, V>(s, row, unit, z);
  } else {
    finish_with<ChosenActivations, V>(s, row, unit, z);
  }
}

// The cells of R rows and P blocks of units that are not plain, from z (R, P, 4).
template <class V, int R, int P>
LSTM_EXT_INLINE void finish_variants(const CellArgs<typename V::Scalar>& s, int64_t row,
                                     int64_t unit, const V* z) {
  static_assert(R == 1 || P == 1, "a pair is of two rows or of two blocks");
  constexpr int kCells = R * P;
  if (s.variant->is_plain && s.variant->peephole && !s.keep) {
    if constexpr (P == 2) {
      return finish_few_cells<true, V, 1, 2>(s, row, unit, z);
    } else {
      return finish_in_pairs<true, V, R>(s, row, unit, z);
    }
  }
  for (int i = 0; i < kCells; ++i) {
    finish_variant<V>(s, row + i / P, unit + i % P * V::kLanes, z + i * kNumGates);
  }
}

// What a backward step reads of a row and some units, and where it writes.
template <class V>
struct CellInputs {
  using T = typename V::Scalar;
  int units;
  CellGates<V> gates;
  V c, c_prev, d_h, d_c;

  LSTM_EXT_INLINE CellInputs(const CellBackwardArgs<T>& b, int64_t row, int64_t unit)
      : units(static_cast<int>(min64(b.unit_end - unit, V::kLanes))) {
    const int64_t kept_row = row * b.kept_row_step;
    const int64_t kept = kept_row * b.hidden_size + unit, state = row * b.d_state_row_stride + unit;
    gates =
        load_gates<V>(b.gates + kNumGates * kept_row * b.hidden_size + unit, b.hidden_size, units);
    c = load_first<V>(b.cells + kept, units);
    c_prev = b.c_prev && !(b.reset && b.reset[kept_row]) ? load_first<V>(b.c_prev + kept, units)
                                                         : V::broadcast(0);
    d_h = load_first<V>(b.d_h + state, units);
    if (b.d_output) {
      d_h = d_h + load_first<V>(b.d_output + row * b.d_output_row_stride + unit, units);
    }
    d_c = load_first<V>(b.d_c + state, units);
  }

  LSTM_EXT_INLINE void store(const CellBackwardArgs<T>& b, int64_t row, int64_t unit,
                             const CellGradient<V>& d) const {
    const int64_t kept_row = row * b.kept_row_step;
    T* const d_gates = b.d_gates + kNumGates * kept_row * b.hidden_size + unit;
    store_gates(d.z, d_gates, b.hidden_size, units);
    const V d_c_prev = b.reset && b.reset[kept_row] ? V::broadcast(0) : d.c_prev;
    store_first(d_c_prev, b.d_c + row * b.d_state_row_stride + unit, units);
  }
};

template <class A, class V>
LSTM_EXT_INLINE void backward_with(const CellBackwardArgs<typename V::Scalar>& b) {
  const CellVariant<typename V::Scalar>& variant = *b.variant;
  for (int64_t row = 0; row < b.rows; ++row) {
    for (int64_t unit = b.unit_begin; unit < b.unit_end; unit += V::kLanes) {
      const CellInputs<V> in(b, row, unit);
      const auto* keep = b.keep ? b.keep + row * b.d_state_row_stride + unit : nullptr;
      const CellExtras<V> extras = cell_extras<V>(variant, keep, in.units, unit);
      const GateSlopes<V> slopes = variant.keeps_z
                                       ? slopes_from_z<A, V>(*variant.options, in.gates)
                                       : slopes_from_gates<V>(*variant.options, in.gates);
      in.store(b, row, unit,
               variant_backward<A, V>(*variant.options, extras, slopes, in.c, in.c_prev, in.d_h,
                                      in.d_c));
    }
  }
}

template <class V>
LSTM_EXT_NOINLINE void variant_cell_backward(const CellBackwardArgs<typename V::Scalar>& b) {
  if (b.variant->is_usual) {
    backward_with<UsualActivations, V>(b);
  } else {
    backward_with<ChosenActivations, V>(b);
  }
}
