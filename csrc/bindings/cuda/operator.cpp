#include <type_traits>

#include "bindings/cuda/arrays.hpp"
#include "bindings/cuda/bindings.hpp"
#include "bindings/cuda/plan.hpp"
#include "bindings/cuda/variant.hpp"
#include "cuda/product.hpp"
#include "cuda/recurrence.hpp"
#include "cuda/rows.hpp"

namespace lstm_ext {
namespace bindings {
namespace {

constexpr int64_t kGates = kNumGates;

template <class S>
struct Sizes {
  int64_t batch, steps, units;
  int64_t outputs;  // of h
  std::vector<int64_t> cell() const { return {batch, units}; }
  std::vector<int64_t> state() const { return {batch, outputs}; }
  std::vector<int64_t> cells() const { return {steps, batch, units}; }
  std::vector<int64_t> sequence() const { return {steps, batch, outputs}; }
  std::vector<int64_t> peephole() const { return {3 * units}; }
  std::vector<int64_t> weights() const { return {outputs, kGates * units}; }
  std::vector<int64_t> gates() const { return {steps, batch, kGates * units}; }
};

template <class S>
Sizes<S> sizes_of(const BoundPlan& plan, cuda::Direction direction, const py::object& gates,
                  const char* name, const py::object& recurrent_kernel,
                  const py::object& projection) {
  if (plan.question.direction != direction) refuse("plan", "one for this direction");
  const DeviceArray array = device_array(gates, name);
  if (array.shape.size() != 3) refuse(name, "3 dimensions");
  const int64_t units = plan.question.hidden_size;
  int64_t outputs = units;
  if (!projection.is_none()) {
    const DeviceArray weights = device_array(recurrent_kernel, "recurrent_kernel");
    if (weights.shape.size() != 2) refuse("recurrent_kernel", "2 dimensions");
    outputs = weights.shape[0];
  }
  return {plan.question.batch_size, array.shape[0], units, outputs};
}

cuda::Execution execution_of(const BoundPlan& plan, const py::object& scratch, uint64_t stream,
                             uint64_t timeout_ns) {
  void* memory = nullptr;
  if (plan.plan.scratch_bytes > 0) {
    const DeviceArray array = device_array(scratch, "scratch");
    const int64_t bytes = array.shape.size() == 1 && array.code == "<u8" ? 8 * array.shape[0] : 0;
    if (bytes < static_cast<int64_t>(plan.plan.scratch_bytes)) {
      refuse("scratch", "uint64 of " + std::to_string(plan.plan.scratch_bytes) + " bytes");
    }
    memory = reinterpret_cast<void*>(array.data);
  }
  return {plan.plan, memory, cuda::shared_word(), timeout_ns,
          reinterpret_cast<cuda::Stream>(stream)};
}

// Of the first two of three axes, in elements.
struct Strides {
  int64_t first, second;
};
template <class T>
Strides strides_of(const DeviceArray& array, const std::vector<int64_t>& shape) {
  const auto item = static_cast<int64_t>(sizeof(T));
  if (array.strides.empty()) return {shape[1] * shape[2], shape[2]};
  return {array.strides[0] / item, array.strides[1] / item};
}

template <class S>
cuda::Variant<S> variant_of(const py::object& given, const Sizes<S>& n) {
  const auto& variant = py::cast<const BoundVariant&>(given);
  return {variant.options, read_optional<S>(variant.peephole, "peephole", n.peephole()),
          read_optional<uint8_t>(variant.zoneout, "zoneout_places", {n.batch, n.steps, n.outputs}),
          read_optional<uint8_t>(variant.cell_zoneout, "cell_zoneout_places",
                                 {n.batch, n.steps, n.units})};
}

// A plan for the plain cell need not be right for another, nor one for that.
void check_cell(const BoundPlan& plan, const py::object& variant, const py::object& projection) {
  if (variant.is_none() && !projection.is_none()) refuse("variant", "one beside a projection");
  const bool is_given = !variant.is_none(), is_planned = plan.question.has_variant;
  if (is_given && !is_planned) refuse("plan", "one for a variant of the cell");
  if (!is_given && is_planned) refuse("variant", "one, for which the plan is");
}

struct ForwardArrays {
  py::object projected, recurrent_kernel, bias, h0, c0, flags, h_factors, variant, projection,
      hidden, output, h, c, made, gates, cells;
  bool activated;
};

template <class S>
void forward(const BoundPlan& plan, const ForwardArrays& a, const py::object& scratch,
             uint64_t stream, uint64_t timeout_ns) {
  using A = cuda::Computing<S>;
  const auto n = sizes_of<S>(plan, cuda::Direction::kForward, a.projected, "projected",
                             a.recurrent_kernel, a.projection);
  cuda::Forward<S> call{};
  call.batch_size = n.batch, call.seq_len = n.steps, call.hidden_size = n.units;
  const DeviceArray projected = check_array<A>(a.projected, "projected", n.gates(), 2);
  call.projected = reinterpret_cast<const A*>(projected.data);
  const Strides strides = strides_of<A>(projected, n.gates());
  call.projected_time_stride = strides.first, call.projected_batch_stride = strides.second;
  call.w_hh = read<S>(a.recurrent_kernel, "recurrent_kernel", n.weights());
  call.bias = read_optional<S>(a.bias, "bias", {kGates * n.units});
  call.h0 = read_optional<S>(a.h0, "h0", n.state());
  call.c0 = read_optional<A>(a.c0, "c0", n.cell());
  call.h = write<S>(a.h, "h", n.state());
  call.flags = read_optional<uint8_t>(a.flags, "flags", {n.steps, n.batch});
  call.h_factors = read_optional<A>(a.h_factors, "h_factors", n.state());
  call.hidden = write<S>(a.hidden, "hidden", {n.steps + 1, n.batch, n.outputs});
  call.output = write_optional<S>(a.output, "output", n.sequence());
  call.c = write<A>(a.c, "c", n.cell());
  call.gates = write_optional<S>(a.gates, "gates", n.gates());
  call.cells = write_optional<A>(a.cells, "cells", n.cells());
  if ((call.gates == nullptr) != (call.cells == nullptr)) refuse("cells", "both gates and cells");
  const bool is_plain = call.flags == nullptr && call.h_factors == nullptr;
  if (is_plain != (call.output == nullptr)) refuse("output", "it beside flags or h_factors only");
  const cuda::Execution execution = execution_of(plan, scratch, stream, timeout_ns);
  check_cell(plan, a.variant, a.projection);
  const auto run = [&](const auto& whole) {
    const py::gil_scoped_release release;
    cuda::lstm_forward(whole, execution);
  };
  if (a.variant.is_none()) return run(call);
  if constexpr (std::is_same_v<S, cuda::BFloat16>) {
    refuse("variant", "None beside bfloat16");
  } else {
    const cuda::VariantForward<S> whole{call, variant_of<S>(a.variant, n), a.activated};
    if (a.projection.is_none()) return run(whole);
    const S* const w_hr = read<S>(a.projection, "projection", {n.outputs, n.units});
    S* const made = write<S>(a.made, "made", {call.gates ? n.steps : 1, n.batch, n.units});
    run(cuda::ProjectedForward<S>{whole, n.outputs, w_hr, made});
  }
}

struct BackwardArrays {
  py::object recurrent_kernel, c0, flags, h_factors, variant, projection, carry, gates, cells,
      d_output, d_h, d_c, d_gates, d_h0, d_c0, d_projected, d_peephole;
};

template <class S>
void backward(const BoundPlan& plan, const BackwardArrays& a, const py::object& scratch,
              uint64_t stream, uint64_t timeout_ns) {
  using A = cuda::Computing<S>;
  const auto n = sizes_of<S>(plan, cuda::Direction::kBackward, a.gates, "gates", a.recurrent_kernel,
                             a.projection);
  cuda::Backward<S> call{};
  call.batch_size = n.batch, call.seq_len = n.steps, call.hidden_size = n.units;
  call.w_hh = read<S>(a.recurrent_kernel, "recurrent_kernel", n.weights());
  call.c0 = read_optional<A>(a.c0, "c0", n.cell());
  call.gates = read<S>(a.gates, "gates", n.gates());
  call.cells = read<A>(a.cells, "cells", n.cells());
  if (!a.d_output.is_none()) {
    const std::vector<int64_t> shape{n.batch, n.steps, n.outputs};
    const DeviceArray array = check_array<S>(a.d_output, "d_output", shape, 2);
    call.d_output = reinterpret_cast<const S*>(array.data);
    const Strides strides = strides_of<S>(array, shape);
    call.d_output_batch_stride = strides.first, call.d_output_time_stride = strides.second;
  }
  call.d_h = read_optional<S>(a.d_h, "d_h", n.state());
  call.d_c = read_optional<A>(a.d_c, "d_c", n.cell());
  call.flags = read_optional<uint8_t>(a.flags, "flags", {n.steps, n.batch});
  call.h_factors = read_optional<A>(a.h_factors, "h_factors", n.state());
  call.carry = write_optional<A>(a.carry, "carry", n.state());
  call.d_gates = write<S>(a.d_gates, "d_gates", n.gates());
  call.d_h0 = write<S>(a.d_h0, "d_h0", n.state());
  call.d_c0 = write<A>(a.d_c0, "d_c0", n.cell());
  const cuda::Execution execution = execution_of(plan, scratch, stream, timeout_ns);
  check_cell(plan, a.variant, a.projection);
  const auto check_carry = [&](bool carries_h) {
    const bool is_used = call.flags || carries_h;
    if (is_used != (call.carry != nullptr)) refuse("carry", "it beside flags or zoneout only");
  };
  const auto run = [&](const auto& whole) {
    const py::gil_scoped_release release;
    cuda::lstm_backward(whole, execution);
  };
  if (a.variant.is_none()) {
    check_carry(false);
    return run(call);
  }
  if constexpr (std::is_same_v<S, cuda::BFloat16>) {
    refuse("variant", "None beside bfloat16");
  } else {
    S* const d_peephole = write_optional<S>(a.d_peephole, "d_peephole", n.peephole());
    const auto variant = variant_of<S>(a.variant, n);
    check_carry(keeps_h(variant));
    if ((variant.peephole == nullptr) != (d_peephole == nullptr)) {
      refuse("d_peephole", "both peephole and d_peephole");
    }
    const cuda::VariantBackward<S> whole{call, variant, d_peephole};
    if (a.projection.is_none()) return run(whole);
    const S* const w_hr = read<S>(a.projection, "projection", {n.units, n.outputs});
    S* const d_projected = write<S>(a.d_projected, "d_projected", n.sequence());
    run(cuda::ProjectedBackward<S>{whole, n.outputs, w_hr, d_projected});
  }
}

// A matrix product: `a` is (rows, depth), `b` (depth, columns).
template <class S>
void multiply(const py::object& a, const py::object& b, const py::object& out, uint64_t stream) {
  const DeviceArray left = device_array(a, "a"), right = device_array(b, "b");
  if (left.shape.size() != 2) refuse("a", "2 dimensions");
  if (right.shape.size() != 2) refuse("b", "2 dimensions");
  cuda::Product<S> product{};
  product.rows = left.shape[0], product.depth = left.shape[1], product.columns = right.shape[1];
  product.a = read<S>(a, "a", {product.rows, product.depth});
  product.b = read<S>(b, "b", {product.depth, product.columns});
  product.out = write<cuda::Computing<S>>(out, "out", {product.rows, product.columns});
  const py::gil_scoped_release release;
  cuda::multiply(product, reinterpret_cast<cuda::Stream>(stream));
}

template <class S>
void add_rows(const py::object& numbers, const py::object& order, const py::object& d,
              const py::object& out, uint64_t stream) {
  const DeviceArray from = device_array(d, "d"), to = device_array(out, "out");
  if (from.shape.size() != 2) refuse("d", "2 dimensions");
  if (to.shape.size() != 2) refuse("out", "2 dimensions");
  cuda::RowSums<S> sums{};
  sums.count = from.shape[0], sums.width = from.shape[1], sums.rows = to.shape[0];
  sums.numbers = read<int64_t>(numbers, "numbers", {sums.count});
  sums.order = read<int64_t>(order, "order", {sums.count});
  sums.d = read<S>(d, "d", {sums.count, sums.width});
  sums.out = write<S>(out, "out", {sums.rows, sums.width});
  const py::gil_scoped_release release;
  cuda::add_rows(sums, reinterpret_cast<cuda::Stream>(stream));
}

// Calls `function` with a value of the type that is stored.
template <class Function>
void with_type(cuda::Precision precision, const Function& function) {
  switch (precision) {
    case cuda::Precision::kFloat32:
      return function(float{});
    case cuda::Precision::kFloat64:
      return function(double{});
    case cuda::Precision::kBFloat16:
      return function(cuda::BFloat16{});
  }
}

}  // namespace

void add_cuda_operator(py::module_& module) {
  module.def(
      "forward",
      [](const BoundPlan& plan, py::object projected, py::object recurrent_kernel, py::object bias,
         py::object h0, py::object c0, py::object flags, py::object h_factors, py::object variant,
         py::object projection, py::object hidden, py::object output, py::object h, py::object c,
         py::object made, py::object gates, py::object cells, bool activated,
         const py::object& scratch, uint64_t stream, uint64_t timeout_ns) {
        const ForwardArrays arrays{
            projected, recurrent_kernel, bias, h0, c0,   flags, h_factors, variant,  projection,
            hidden,    output,           h,    c,  made, gates, cells,     activated};
        with_type(plan.question.precision, [&](auto type) {
          forward<decltype(type)>(plan, arrays, scratch, stream, timeout_ns);
        });
      },
      "Enqueue the steps: fills hidden, h and c, output beside flags, and gates and cells if a "
      "backward pass follows. With a variant that pass wants gates that are not activated. A "
      "projection comes transposed, (P, H), and fills made.",
      py::arg("plan"), py::arg("projected"), py::arg("recurrent_kernel"), py::arg("bias"),
      py::arg("h0"), py::arg("c0"), py::arg("flags"), py::arg("h_factors"), py::arg("variant"),
      py::arg("projection"), py::arg("hidden"), py::arg("output"), py::arg("h"), py::arg("c"),
      py::arg("made"), py::arg("gates"), py::arg("cells"), py::arg("activated"), py::arg("scratch"),
      py::arg("stream"), py::arg("timeout_ns"));
  module.def(
      "multiply",
      [](const std::string& dtype, const py::object& a, const py::object& b, const py::object& out,
         uint64_t stream) {
        with_type(precision_of(dtype),
                  [&](auto type) { multiply<decltype(type)>(a, b, out, stream); });
      },
      "Enqueue out = a @ b, with sums in the computed dtype, which is that of out.",
      py::arg("dtype"), py::arg("a"), py::arg("b"), py::arg("out"), py::arg("stream"));
  module.def(
      "add_rows",
      [](const std::string& dtype, const py::object& numbers, const py::object& order,
         const py::object& d, const py::object& out, uint64_t stream) {
        with_type(precision_of(dtype), [&](auto type) {
          if constexpr (!std::is_same_v<decltype(type), cuda::BFloat16>) {
            add_rows<decltype(type)>(numbers, order, d, out, stream);
          } else {
            refuse("dtype", "float32 or float64");
          }
        });
      },
      "Enqueue out[n] = the sum of the rows d[order[i]] with the sorted numbers[i] = n.",
      py::arg("dtype"), py::arg("numbers"), py::arg("order"), py::arg("d"), py::arg("out"),
      py::arg("stream"));
  module.def(
      "backward",
      [](const BoundPlan& plan, py::object recurrent_kernel, py::object c0, py::object flags,
         py::object h_factors, py::object variant, py::object projection, py::object carry,
         py::object gates, py::object cells, py::object d_output, py::object d_h, py::object d_c,
         py::object d_gates, py::object d_h0, py::object d_c0, py::object d_projected,
         py::object d_peephole, const py::object& scratch, uint64_t stream, uint64_t timeout_ns) {
        const BackwardArrays arrays{recurrent_kernel,
                                    c0,
                                    flags,
                                    h_factors,
                                    variant,
                                    projection,
                                    carry,
                                    gates,
                                    cells,
                                    d_output,
                                    d_h,
                                    d_c,
                                    d_gates,
                                    d_h0,
                                    d_c0,
                                    d_projected,
                                    d_peephole};
        with_type(plan.question.precision, [&](auto type) {
          backward<decltype(type)>(plan, arrays, scratch, stream, timeout_ns);
        });
      },
      "Enqueue the steps back: fills d_gates (which may be gates), d_h0, d_c0 and d_peephole, and "
      "beside a projection d_projected.",
      py::arg("plan"), py::arg("recurrent_kernel"), py::arg("c0"), py::arg("flags"),
      py::arg("h_factors"), py::arg("variant"), py::arg("projection"), py::arg("carry"),
      py::arg("gates"), py::arg("cells"), py::arg("d_output"), py::arg("d_h"), py::arg("d_c"),
      py::arg("d_gates"), py::arg("d_h0"), py::arg("d_c0"), py::arg("d_projected"),
      py::arg("d_peephole"), py::arg("scratch"), py::arg("stream"), py::arg("timeout_ns"));
}

}  // namespace bindings
}  // namespace lstm_ext
