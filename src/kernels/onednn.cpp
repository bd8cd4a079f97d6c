// oneDNN's inner product as libtorch carries it (the operators of the `mkldnn` namespace), with a gradient. They have no binding in tch,
// and none at all for the way back. Called from onednn.rs only; nothing is thrown across the border: a null result has its message in
// `w2s_product_error`.

#include <optional>
#include <string>

#include <ATen/Functions.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/version.h>

static_assert(
    TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 11,
    "this program is made for libtorch 2.11: run `make libtorch`, or point LIBTORCH at one");

using at::Tensor;

namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;
using Unary = Tensor(
    const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view, Scalars, std::optional<std::string_view>);
using Binary = Tensor(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view);
using Pack = Tensor(const Tensor&, std::optional<int64_t>);

thread_local std::string message;

template <typename Signature>
auto find(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

// x (.., in), weight (out, in) plain, transposed or packed: x Wᵀ + b, then the activation.
Tensor product(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, bool gelu) {
  static auto op = find<Unary>("mkldnn::_linear_pointwise", "");
  at::AutoDispatchBelowADInplaceOrView below;
  if (gelu) {
    return op.call(x, weight, bias, "gelu", Scalars(), "tanh");
  }
  return op.call(x, weight, bias, "none", Scalars(), "");
}

// The same and `other` (.., out).
Tensor product_and(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& other) {
  static auto op = find<Binary>("mkldnn::_linear_pointwise", "binary");
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(x, other, weight, bias, "add");
}

struct Learned : torch::autograd::Function<Learned> {
  // `laid_out` is the weight as the forward product reads it; `weight` (out, in) is plain and what gradients read and reach.
  static Tensor forward(
      torch::autograd::AutogradContext* context,
      const Tensor& x,
      const Tensor& weight,
      const Tensor* laid_out,
      bool plain_wins,
      const std::optional<Tensor>& bias) {
    // Without a gradient of the weight nobody asks for what it was multiplied with.
    context->save_for_backward({weight.requires_grad() ? x : Tensor(), weight});
    context->saved_data["plain_wins"] = plain_wins;
    context->saved_data["bias"] = bias.has_value();
    return product(x, *laid_out, bias, false);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list outputs) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const auto rows = outputs[0].reshape({-1, weight.size(0)});
    const bool plain_wins = context->saved_data["plain_wins"].toBool();
    const auto times = [&](const Tensor& a, const Tensor& b) {
      return plain_wins ? product(a, b, std::nullopt, false) : at::linear(a, b);
    };
    Tensor to_x, to_weight, to_bias;
    if (context->needs_input_grad(0)) {
      auto shape = outputs[0].sizes().vec();
      shape.back() = weight.size(1);
      to_x = times(rows, weight.t()).view(shape);
    }
    if (context->needs_input_grad(1)) {
      const auto inputs = x.reshape({-1, weight.size(1)});
      // In the layout of the weight itself.
      to_weight = weight.is_contiguous() ? times(rows.t(), inputs.t()) : times(inputs.t(), rows.t()).t();
    }
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) {
      to_bias = rows.sum(0);
    }
    return {to_x, to_weight, Tensor(), Tensor(), to_bias};
  }
};

template <typename Work>
Tensor* caught(Work work) {
  try {
    return new Tensor(work());
  } catch (const c10::Error& error) {
    message = error.what_without_backtrace();
  } catch (const std::exception& error) {
    message = error.what();
  }
  return nullptr;
}

std::optional<Tensor> optional(const Tensor* tensor) {
  return tensor ? std::optional<Tensor>(*tensor) : std::nullopt;
}

}  // namespace

extern "C" {

const char* w2s_product_error() {
  return message.c_str();
}

// `weight` (out, in) in the layout in which products of about `rows` rows are fastest; only `w2s_product` can read it.
Tensor* w2s_pack(const Tensor* weight, int64_t rows) {
  return caught([&] {
    static auto op = find<Pack>("mkldnn::_reorder_linear_weight", "");
    at::AutoDispatchBelowADInplaceOrView below;
    return op.call(*weight, rows);
  });
}

// Without a gradient. `gelu` and `other` exclude one another.
Tensor* w2s_product(const Tensor* x, const Tensor* weight, const Tensor* bias, bool gelu, const Tensor* other) {
  return caught([&] { return other ? product_and(*x, *weight, optional(bias), *other) : product(*x, *weight, optional(bias), gelu); });
}

// With one. `packed` may be null; `plain_wins` says whether the two products on the way back are oneDNN's too.
Tensor* w2s_learned_product(const Tensor* x, const Tensor* weight, const Tensor* packed, bool plain_wins, const Tensor* bias) {
  return caught([&] { return Learned::apply(*x, *weight, packed ? packed : weight, plain_wins, optional(bias)); });
}

// Whether a product of these is to be learned from.
bool w2s_learns(const Tensor* x, const Tensor* weight, const Tensor* bias) {
  return at::GradMode::is_enabled() && (x->requires_grad() || (weight && weight->requires_grad()) || (bias && bias->requires_grad()));
}
}
