"""Every operation of the table gives what onnxruntime gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from facefocus.models.onnx_graph import OnnxGraph
from facefocus.models.onnx_operations import OPERATIONS, UnknownOperation

onnxruntime = pytest.importorskip("onnxruntime")


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


IMAGE = normal(2, 4, 6, 5)
ROWS = normal(2, 3, 8)
POSITIVE = np.abs(IMAGE) + 0.1
SMALL = np.round(IMAGE * 2) / 2


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def case(
    operation: str,
    x: np.ndarray,
    *others: Any,
    opset: int = 17,
    outputs: int = 1,
    **attributes: Any,
) -> Any:
    words = [
        operation,
        *(f"{k}={v}" for k, v in attributes.items()),
        *([f"v{opset}"] * (opset != 17)),
    ]
    return pytest.param(
        operation, x, others, opset, outputs, attributes, id=" ".join(map(str, words))
    )


KERNEL, BIAS = normal(6, 4, 3, 2, seed=1), normal(6, seed=2)
CHANNELS = [normal(4, seed=seed) for seed in range(3)]
STATISTICS = [*CHANNELS, np.abs(normal(4, seed=3)) + 0.5]
#: Elementwise functions of one input, and an input that each is defined for.
UNARY = dict.fromkeys(
    """Abs Ceil Cos Erf Exp Floor HardSwish Identity Neg Reciprocal Relu Sigmoid Sign Sin Softplus
    Softsign Tanh Elu Selu Celu LeakyRelu HardSigmoid GlobalAveragePool GlobalMaxPool LogSoftmax
    Softmax Shape Size Squeeze Transpose Flatten Dropout ReduceMean ReduceMax""".split(),  # noqa: SIM905
    IMAGE,
) | {"Log": POSITIVE, "Sqrt": POSITIVE, "Round": SMALL * 3}

CASES = [
    *(case(name, x) for name, x in UNARY.items()),
    case("Mish", IMAGE, opset=18),
    case("Gelu", IMAGE, opset=20),
    case("Gelu", IMAGE, opset=20, approximate="tanh"),
    case("Not", IMAGE > 0),
    *(case(name, IMAGE, CHANNELS[0].reshape(1, 4, 1, 1)) for name in ("Add", "Sub", "Mul", "Div")),
    *(
        case(name, IMAGE, normal(2, 4, 6, 5, seed=1), IMAGE * 2)
        for name in ("Min", "Max", "Sum", "Mean")
    ),
    *(
        case(name, SMALL, np.abs(SMALL))
        for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    ),
    *(case(name, IMAGE > 0, IMAGE > 0.5) for name in ("And", "Or")),
    case("Div", ints(7, -7, 9), ints(2, 2, -4)),
    case("Mod", ints(7, -7, 9), ints(3, 3, -4)),
    case("Mod", SMALL, np.float32(0.75), fmod=1),
    case("Pow", IMAGE, np.float32(2)),
    case("Pow", POSITIVE, np.abs(CHANNELS[0]).reshape(4, 1, 1)),
    case("Clip", IMAGE, np.float32(-0.5), np.float32(0.7)),
    case("Clip", IMAGE, None, np.float32(0.7)),
    case("Clip", IMAGE, opset=7, min=0.0, max=6.0),
    case("LeakyRelu", IMAGE, alpha=0.3),
    case("Elu", IMAGE, alpha=0.3),
    case("HardSigmoid", IMAGE, alpha=1 / 6, beta=0.5),
    case("Selu", IMAGE, alpha=1.2, gamma=0.9),
    case("PRelu", IMAGE, CHANNELS[0].reshape(4, 1, 1)),
    case("PRelu", IMAGE, floats(0.2)),
    case("PRelu", IMAGE, normal(5)),
    case("PRelu", IMAGE, normal(4, 6, 5)),
    case("PRelu", IMAGE[:, :, 0, 0], CHANNELS[0]),
    case("Where", IMAGE > 0, IMAGE, CHANNELS[0].reshape(4, 1, 1)),
    case("Cast", IMAGE * 3, to=TensorProto.INT64),
    case("Cast", IMAGE * 3, to=TensorProto.FLOAT),
    case("Cast", SMALL, to=TensorProto.BOOL),
    case("Cast", ints(1, 2), to=TensorProto.FLOAT),
    case("CastLike", IMAGE * 3, ints(1), opset=19),
    case("DequantizeLinear", np.array([[-3, 4], [5, 6]], np.int8), np.float32(0.5), np.int8(1)),
    case(
        "DequantizeLinear",
        np.array([[-3, 4], [5, 6]], np.int8),
        floats(0.5, 2),
        np.array([1, 0], np.int8),
        axis=1,
    ),
    case("Conv", IMAGE, KERNEL),
    case("Conv", IMAGE, KERNEL, BIAS, pads=[1, 0, 1, 1], strides=[2, 1]),
    case("Conv", IMAGE, KERNEL, dilations=[2, 2]),
    case("Conv", IMAGE, normal(4, 2, 3, 3), group=2, pads=[1, 1, 1, 1]),
    case("Conv", IMAGE, KERNEL, auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", IMAGE, KERNEL, auto_pad="SAME_LOWER", strides=[2, 2]),
    case("Conv", IMAGE, KERNEL, auto_pad="VALID"),
    case("Conv", ROWS, normal(2, 3, 3), pads=[1, 1]),
    case(
        "ConvTranspose",
        IMAGE,
        normal(4, 3, 3, 3),
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        output_padding=[1, 1],
    ),
    case("BatchNormalization", IMAGE, *STATISTICS, epsilon=1e-3),
    case("BatchNormalization", IMAGE, *STATISTICS, opset=9),
    case("LayerNormalization", ROWS, normal(8), normal(8, seed=1)),
    case("LayerNormalization", ROWS, normal(3, 8), axis=1, epsilon=1e-2),
    case("InstanceNormalization", IMAGE, *CHANNELS[:2]),
    case("GroupNormalization", IMAGE, *CHANNELS[:2], opset=21, num_groups=2),
    case("LpNormalization", ROWS),
    case("LpNormalization", ROWS, p=1, axis=1),
    case("LRN", IMAGE, size=3, alpha=0.1, beta=0.7, bias=1.5),
    case("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 0, 0]),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], dilations=[2, 2]),
    case("AveragePool", IMAGE, kernel_shape=[2, 2]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Gemm", normal(2, 3), normal(3, 4), normal(4, seed=1)),
    case("Gemm", normal(3, 2), normal(4, 3), normal(2, 4), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("Gemm", normal(2, 3), normal(3, 4)),
    case("MatMul", normal(2, 3), normal(3, 4)),
    case("MatMul", IMAGE, normal(5, 3)),
    case("MatMul", IMAGE, normal(4, 5, 3)),
    case("Einsum", normal(2, 3), normal(3, 4), equation="ij,jk->ki"),
    case("CumSum", IMAGE, np.array(2)),
    case("CumSum", IMAGE, np.array(-1), exclusive=1, reverse=1),
    case("Softmax", IMAGE, axis=1),
    case("Softmax", IMAGE, opset=11, axis=1),
    case("Softmax", IMAGE, opset=11, axis=3),
    case("LogSoftmax", IMAGE, opset=11),
    *(
        case(f"Reduce{name}", IMAGE, opset=13, axes=[1, -1], keepdims=keep)
        for name in ["L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"]
        for keep in (0, 1)
    ),
    case("ReduceSum", IMAGE, ints(2, 3), keepdims=0),
    case("ReduceMean", IMAGE, ints(2, 3), opset=18, keepdims=0),
    case("ReduceSum", IMAGE, noop_with_empty_axes=1),
    case("ConstantOfShape", ints(2, 3), value=numpy_helper.from_array(floats(1.5))),
    case("Shape", IMAGE, start=1, end=3),
    case("Range", np.array(2), np.int64(11), np.int64(3)),
    case("Reshape", IMAGE, ints(0, -1, 3)),
    case("Flatten", IMAGE, axis=2),
    case("Flatten", IMAGE, axis=-1),
    case("Transpose", IMAGE, perm=[0, 2, 3, 1]),
    case("Squeeze", IMAGE[:, :1, :, :1], ints(1, -1)),
    case("Squeeze", IMAGE[:, :1], opset=11, axes=[1]),
    case("Unsqueeze", ROWS, ints(0, -1)),
    case("Unsqueeze", ROWS, opset=11, axes=[1, 3]),
    case("Concat", IMAGE, IMAGE[:, :1], axis=1),
    case("Split", IMAGE, ints(1, 3), outputs=2, axis=1),
    case("Split", IMAGE, outputs=2, axis=1),
    case("Split", IMAGE, outputs=3, axis=3, num_outputs=3, opset=18),
    case("Split", IMAGE, opset=11, outputs=2, axis=1, split=[3, 1]),
    case("Slice", IMAGE, ints(1, -3), ints(2**62, -1), ints(1, 2)),
    case("Slice", IMAGE, ints(-1), ints(-(2**62)), ints(1), ints(-2)),
    case("Slice", IMAGE, ints(0), ints(5), ints(2), ints(2)),
    case("Slice", IMAGE, opset=9, starts=[1], ends=[4], axes=[2]),
    case("Gather", IMAGE, ints(2, -1, 0), axis=1),
    case("Gather", IMAGE, np.array([[0, 1], [1, 0]]), axis=3),
    case("Gather", IMAGE, np.int64(-1), axis=2),
    case("GatherElements", ROWS, np.zeros((2, 3, 2), np.int64) - 1, axis=2),
    case("Expand", IMAGE[:, :1], ints(4, 1, 1)),
    case("Tile", IMAGE, ints(1, 2, 1, 3)),
    case("Trilu", ROWS, np.int64(1)),
    case("Trilu", ROWS, upper=0),
    case("DepthToSpace", IMAGE, blocksize=2),
    case("DepthToSpace", IMAGE, blocksize=2, mode="CRD"),
    case("SpaceToDepth", IMAGE[..., :4], blocksize=2),
    case("Pad", IMAGE, ints(0, 0, 1, 2, 0, 1, 0, 3), np.float32(0.5)),
    case("Pad", IMAGE, ints(0, 0, 1, 2, 0, 0, 2, 1), mode="reflect"),
    case("Pad", IMAGE, ints(0, 0, 1, 2, 0, 0, 2, 1), mode="edge"),
    case("Pad", IMAGE, ints(1, -1), None, ints(2), opset=18),
    case("Pad", IMAGE, opset=9, pads=[0, 0, 1, 1, 0, 0, 1, 1], value=2.0),
    *(
        case(
            "Resize",
            IMAGE,
            None,
            None,
            ints(2, 4, *size),
            coordinate_transformation_mode=mode,
            nearest_mode=turn,
        )
        for size, mode, turn in (
            ((12, 10), "asymmetric", "floor"),
            ((3, 9), "half_pixel", "round_prefer_floor"),
            ((9, 3), "align_corners", "round_prefer_ceil"),
            ((7, 1), "pytorch_half_pixel", "ceil"),
        )
    ),
    case("Resize", IMAGE, None, floats(1, 1, 2, 2), mode="nearest"),
    case("Resize", IMAGE, floats(1, 1, 2, 2), opset=10, mode="nearest"),
    case("Upsample", IMAGE, floats(1, 1, 2, 3), opset=9, mode="nearest"),
    case("Resize", IMAGE, None, None, ints(2, 4, 9, 7), mode="linear"),
    case(
        "Resize",
        IMAGE,
        None,
        None,
        ints(2, 4, 9, 7),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    case("Resize", IMAGE, None, None, ints(2, 4, 9, 7), mode="cubic", cubic_coeff_a=-0.75),
]


def model_of(
    operation: str,
    given: list[np.ndarray | None],
    outputs: int,
    opset: int,
    attributes: dict[str, Any],
    constants: bool = False,
) -> onnx.ModelProto:
    """A model of one node; all its inputs but the first are constants where that is wanted."""
    names = ["" if value is None else f"in{index}" for index, value in enumerate(given)]
    arrays = {name: value for name, value in zip(names, given, strict=True) if value is not None}
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in arrays.items()
        if not constants or name == "in0"
    ]
    made = [f"out{index}" for index in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(operation, names, made, **attributes)],
        "one node",
        inputs,
        [onnx.ValueInfoProto(name=name) for name in made],
        [
            numpy_helper.from_array(value, name)
            for name, value in arrays.items()
            if constants and name != "in0"
        ],
    )
    ids = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=ids, ir_version=10)


def by_onnxruntime(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    needed = {entry.name for entry in session.get_inputs()}
    results: list[np.ndarray] = session.run(None, {k: v for k, v in given.items() if k in needed})
    return results


@pytest.mark.parametrize(("operation", "x", "others", "opset", "outputs", "attributes"), CASES)
def test_an_operation_gives_what_onnxruntime_gives(
    operation: str, x: np.ndarray, others: tuple[Any, ...], opset: int, outputs: int,
    attributes: dict[str, Any],
) -> None:  # fmt: skip
    given = [np.asarray(x), *(None if other is None else np.asarray(other) for other in others)]
    model = model_of(operation, given, outputs, opset, attributes, constants=True)
    arrays = {f"in{index}": value for index, value in enumerate(given) if value is not None}
    wanted = by_onnxruntime(model, arrays)
    for index, expected in enumerate(wanted):
        graph = OnnxGraph(model, f"out{index}")
        graph.integer_pixels = False
        output = graph(torch.from_numpy(np.array(given[0]))).numpy()
        assert output.shape == expected.shape and output.dtype == expected.dtype
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=2e-6)


def test_every_operation_is_compared() -> None:
    compared = {parameters.values[0] for parameters in CASES}
    # Constant has no input, and this onnxruntime runs neither Swish nor Attention.
    assert set(OPERATIONS) - compared == {"Attention", "Constant", "Swish"}


def test_attention_and_swish_by_their_definitions() -> None:
    q, k, v = (normal(2, 3, 4, 8, seed=seed) for seed in range(3))
    graph = OnnxGraph(
        model_of("Attention", [q, k, v], 1, 23, {"scale": 0.3}, constants=True), "out0"
    )
    scores = 0.3 * q @ k.transpose(0, 1, 3, 2)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        graph(torch.from_numpy(q)).numpy(), weights @ v, rtol=1e-5, atol=1e-6
    )
    swish = OnnxGraph(model_of("Swish", [IMAGE], 1, 24, {"alpha": 2.0}), "out0")
    expected = IMAGE / (1 + np.exp(-2 * IMAGE))
    np.testing.assert_allclose(
        swish(torch.from_numpy(IMAGE)).numpy(), expected, rtol=1e-5, atol=1e-6
    )


def test_statistics_of_every_place_and_slopes_that_mxnet_wrote() -> None:
    """Versions 7 and 8, which onnxruntime does not run: batch normalization with spatial = 0."""
    mean, variance = normal(4, 6, 5), np.abs(normal(4, 6, 5, seed=1)) + 0.5
    scale, bias = normal(4, 6, 5, seed=2), normal(4, 6, 5, seed=3)
    given: list[np.ndarray | None] = [IMAGE, scale, bias, mean, variance]
    graph = OnnxGraph(model_of("BatchNormalization", given, 1, 8, {"spatial": 0}, True), "out0")
    expected = (IMAGE - mean) / np.sqrt(variance + 1e-5) * scale + bias
    np.testing.assert_allclose(
        graph(torch.from_numpy(IMAGE)).numpy(), expected, rtol=1e-4, atol=1e-5
    )
    slopes = OnnxGraph(model_of("PRelu", [IMAGE, CHANNELS[0]], 1, 8, {}, True), "out0")
    expected = np.where(IMAGE < 0, CHANNELS[0].reshape(4, 1, 1) * IMAGE, IMAGE)
    np.testing.assert_allclose(slopes(torch.from_numpy(IMAGE)).numpy(), expected)


@pytest.mark.parametrize(
    ("operation", "others", "attributes", "text"),
    [
        ("Conv", [normal(2, 4, 1, 1, 1)], {}, "Conv with 3 axes"),
        ("BatchNormalization", STATISTICS, {"training_mode": 1}, "training_mode = 1"),
        (
            "Resize",
            [None, None, ints(2, 4, 9, 7)],
            {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
            "Resize with mode linear and asymmetric",
        ),
        ("Cast", [], {"to": TensorProto.STRING}, "Cast with type 8"),
        ("NonMaxSuppression", [IMAGE], {}, "^NonMaxSuppression$"),
    ],
)
def test_what_is_not_in_the_table_is_named(
    operation: str, others: list[Any], attributes: dict[str, Any], text: str
) -> None:
    with pytest.raises(UnknownOperation, match=text):
        model = model_of(operation, [IMAGE, *others], 1, 17, attributes, constants=True)
        OnnxGraph(model, "out0")(torch.from_numpy(IMAGE))
