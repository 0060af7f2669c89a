// Kernels over flat arrays: the activations by themselves, the optimizer's update, and the probes
// that measure a core's ceilings. Included after tile_impl.hpp.

template <class V, V (*Function)(V)>
void map_array(int64_t size, const typename V::Scalar* x, typename V::Scalar* y) {
  for (int64_t i = 0; i < size; i += V::kLanes) {
    const int n = static_cast<int>(min64(size - i, V::kLanes));
    store_first(Function(load_first<V>(x + i, n)), y + i, n);
  }
}

template <class V>
void activate_array(const ActivationOptions& options, int64_t size, const typename V::Scalar* z,
                    typename V::Scalar* y) {
  for (int64_t i = 0; i < size; i += V::kLanes) {
    const int n = static_cast<int>(min64(size - i, V::kLanes));
    store_first(activate<V>(options, load_first<V>(z + i, n)), y + i, n);
  }
}

template <class V>
void slopes_of_array(const ActivationOptions& options, int64_t size, const typename V::Scalar* z,
                     const typename V::Scalar* y, typename V::Scalar* slopes) {
  for (int64_t i = 0; i < size; i += V::kLanes) {
    const int n = static_cast<int>(min64(size - i, V::kLanes));
    const V slope = activation_slope<V>(options, load_first<V>(z + i, n), load_first<V>(y + i, n));
    store_first(slope, slopes + i, n);
  }
}

// Zero times infinity or NaN is NaN, which no sum loses.
template <class V>
bool all_finite(int64_t size, const typename V::Scalar* x) {
  constexpr int kChains = 4;
  const V zero = V::broadcast(0);
  V sums[kChains] = {zero, zero, zero, zero};
  int64_t i = 0;
  for (; i + kChains * V::kLanes <= size; i += kChains * V::kLanes) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < kChains; ++j) {
      sums[j] = fma(V::load(x + i + j * V::kLanes), zero, sums[j]);
    }
  }
  for (; i < size; i += V::kLanes) {
    const int n = static_cast<int>(min64(size - i, V::kLanes));
    sums[0] = fma(load_first<V>(x + i, n), zero, sums[0]);
  }
  typename V::Scalar lanes[V::kLanes];
  (sums[0] + sums[1] + sums[2] + sums[3]).store(lanes);
  bool finite = true;
  for (int lane = 0; lane < V::kLanes; ++lane) finite = finite && lanes[lane] == 0;
  return finite;
}

// Whether gradients and state of so many vectors from i on are zero, as of recurrent weights in
// sequences of one step, or of an embedding's rows that never came up.
template <class V>
bool is_untouched(const AdamArgs<typename V::Scalar>& a, int64_t i, int64_t vectors) {
  const auto is_zero = [](V sums) {
    typename V::Scalar lanes[V::kLanes];
    sums.store(lanes);
    bool zero = true;
    for (int lane = 0; lane < V::kLanes; ++lane) zero = zero && lanes[lane] == 0;
    return zero;
  };
  V sums = abs(V::load(a.grad + i));
  if (!is_zero(sums)) return false;  // soon known of most
  for (int64_t end = i + vectors * V::kLanes; i < end; i += V::kLanes) {
    sums = sums + abs(V::load(a.grad + i)) + abs(V::load(a.m + i)) + abs(V::load(a.v + i));
  }
  return is_zero(sums);  // a NaN is not zero either
}

// Adam with the bias correction folded into step_size (Kingma and Ba 2015, section 2), and
// decoupled weight decay (Loshchilov and Hutter 2019).
template <class V>
void adam(const AdamArgs<typename V::Scalar>& a) {
  const V keep = V::broadcast(a.keep);
  const V new_m = V::broadcast(a.new_m);
  const V new_v = V::broadcast(a.new_v);
  const V step_size = V::broadcast(a.step_size);
  const V epsilon = V::broadcast(a.epsilon);
  const auto update = [&](int64_t i) {
    const int n = static_cast<int>(min64(a.size - i, V::kLanes));
    const V grad = load_first<V>(a.grad + i, n);
    V m = load_first<V>(a.m + i, n);
    V v = load_first<V>(a.v + i, n);
    m = fma(grad - m, new_m, m);
    v = fma(grad * grad - v, new_v, v);
    const V change = step_size * m / (sqrt(v) + epsilon);
    store_first(m, a.m + i, n);
    store_first(v, a.v + i, n);
    store_first(load_first<V>(a.param + i, n) * keep - change, a.param + i, n);
  };
  // What has had no gradient does not change: 0 / (0 + epsilon) is zero. A root and a division take
  // longer than all the rest of a vector.
  const bool may_skip = a.keep == 1 && a.epsilon > 0;
  constexpr int64_t kVectors = 16;
  constexpr int64_t kBlock = kVectors * V::kLanes;
  for (int64_t begin = 0; begin < a.size; begin += kBlock) {
    const int64_t end = min64(begin + kBlock, a.size);
    if (may_skip && end - begin == kBlock && is_untouched<V>(a, begin, kVectors)) continue;
    for (int64_t i = begin; i < end; i += V::kLanes) update(i);
  }
}

// Enough independent chains to hide the latency of a fused multiply-add on every known core.
template <class V>
int64_t fma_probe(int64_t iterations, typename V::Scalar* sink) {
  constexpr int kChains = 12;
  V chain[kChains];
  for (int j = 0; j < kChains; ++j) chain[j] = V::broadcast(static_cast<typename V::Scalar>(j));
  const V scale = V::broadcast(static_cast<typename V::Scalar>(0.999));
  const V offset = V::broadcast(static_cast<typename V::Scalar>(0.25));
  for (int64_t i = 0; i < iterations; ++i) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < kChains; ++j) chain[j] = fma(chain[j], scale, offset);
  }
  V total = chain[0];
  for (int j = 1; j < kChains; ++j) total = total + chain[j];
  total.store(sink);
  return iterations * kChains * V::kLanes * 2;
}

// Reads an array once. `size` is a multiple of eight vectors.
template <class V>
void read_probe(int64_t size, const typename V::Scalar* data, typename V::Scalar* sink) {
  constexpr int kStreams = 8;
  V total[kStreams];
  for (int j = 0; j < kStreams; ++j) total[j] = V::broadcast(0);
  for (int64_t i = 0; i + kStreams * V::kLanes <= size; i += kStreams * V::kLanes) {
    LSTM_EXT_UNROLL
    for (int j = 0; j < kStreams; ++j) total[j] = total[j] + V::load(data + i + j * V::kLanes);
  }
  for (int j = 1; j < kStreams; ++j) total[0] = total[0] + total[j];
  total[0].store(sink);
}

template <class V>
constexpr KernelTable<typename V::Scalar> make_table() {
  return {{V::kLanes, &gemm<Values<V>>, &step<Values<V>>, &cell_backward<V>, &all_finite<V>,
           &adam<V>, &map_array<V, &sigmoid<V>>, &map_array<V, &tanh<V>>, &activate_array<V>,
           &slopes_of_array<V>, &fma_probe<V>, &read_probe<V>}};
}
