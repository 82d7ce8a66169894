"""An ONNX graph as a torch module, so that its layers and gradients can be seen.

Every node is run by its function in `onnx_operations`; weights are parameters of the module, and
what depends on no input is computed once. All floats are of one type, float32 unless the module is
converted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facefocus.core.errors import UserError, one_line
from facefocus.models.layers import placement
from facefocus.models.onnx_operations import OPERATIONS, Node, UnknownOperation

#: Operations whose constant shape counts images in a file that is fixed to some number of them.
_SHAPED = ("Reshape", "Expand")

#: Float types by their number in ONNX.
_FLOATS = (1, 10, 11, 16)


class OnnxGraph(nn.Module):
    """Runs an ONNX model in torch; differentiable.

    Args:
        model: An ``onnx.ModelProto`` with its weights (see `read_model`).
        output: Name of the output to return.
        images: How many images the constants of the file are made for; None for any number. The
            module takes any number all the same.

    Attributes:
        nodes: The nodes that depend on the input, in the order in which they are run.

    Raises:
        UnknownOperation: The graph needs an operation that is not in the table; names it.
    """

    def __init__(self, model: Any, output: str, images: int | None = None) -> None:
        super().__init__()
        self.output, self.images = output, images
        graph = model.graph
        constants = {value.name: _tensor(value) for value in graph.initializer}
        # Before IR version 4, weights were inputs as well.
        image = next(value for value in graph.input if value.name not in constants)
        self.input = image.name
        #: Whether the file takes pixels as whole numbers.
        self.integer_pixels = image.type.tensor_type.elem_type not in _FLOATS
        nodes = _needed(_fused_layer_norms(_nodes(model), constants), {output})
        if missing := [node.operation for node in nodes if node.operation not in OPERATIONS]:
            raise UnknownOperation(", ".join(sorted(set(missing))))
        remaining = [_linear(node, constants) for node in _folded(nodes, constants)]
        self.nodes = _needed(remaining, {output})
        self._paths: dict[str, str] = {}
        #: Whole numbers, shapes and single numbers: they stay on the CPU.
        self._plain: dict[str, Tensor] = {}
        for node in self.nodes:
            for name in node.inputs:
                self._keep(node, name, constants)
        if output in constants:
            self._plain[output] = constants[output]
        #: Shapes whose first side is a number of the file, the others may be computed.
        self._written = set(self._plain) | {
            node.outputs[0]
            for node in self.nodes
            if node.operation == "Concat" and node.inputs[0] in self._plain
        }
        self._last = {name: step for step, node in enumerate(self.nodes) for name in node.inputs}
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """The output for images as the file takes them, floats in any case."""
        for name, value in self.values(images):
            if name == self.output:
                return value
        return self._plain[self.output]

    def values(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Every value of the graph by name, in the order in which they are computed."""
        _, dtype = placement(self)
        if self.integer_pixels:
            # Pixels are whole numbers; the gradient passes as if they were not.
            images = images + (images.round() - images).detach()
        live = {self.input: images}
        parameters = dict(self.named_parameters(remove_duplicate=False))
        constants = self._plain | {name: parameters[path] for name, path in self._paths.items()}
        for step, node in enumerate(self.nodes):
            given = [
                None if not name else constants[name] if name in constants else live[name]
                for name in node.inputs
            ]
            if self.images is not None:
                given = self._for_images(node, given, constants, int(images.shape[0]))
            results = _several(OPERATIONS[node.operation](node, *given))
            del given
            for name in node.inputs:
                if name and name not in constants and self._last[name] == step:
                    live.pop(name, None)
            for name, value in zip(node.outputs, results, strict=False):
                live[name] = value.to(dtype) if value.is_floating_point() else value
                yield name, live[name]

    def _for_images(
        self, node: Node, given: list[Any], constants: Mapping[str, Tensor], count: int
    ) -> list[Any]:
        """What a node of a file for a fixed number of images is given for `count` images.

        A shape's first side, where the file has its number, counts images times what each is
        divided into; constants that are joined to images, as class tokens are, are repeated.
        """
        fixed = self.images or 1
        if node.operation in _SHAPED and node.inputs[1] in self._written:
            shape = given[1].clone()
            if node.operation == "Reshape" and shape.prod() == given[0].numel():
                return given  # It fits as it is: a value that is no image's.
            if shape[0] > 0 and (node.operation == "Reshape" or shape[0] % fixed == 0):
                shape[0] = shape[0] * count // fixed
            return [given[0], shape]
        if node.operation == "Concat" and node.get("axis") != 0:
            return [
                value[:1].expand(count, *value.shape[1:])
                if name in constants and len(value) == fixed and value.is_floating_point()
                else value
                for name, value in zip(node.inputs, given, strict=True)
            ]
        return given

    def _keep(self, node: Node, name: str, constants: Mapping[str, Tensor]) -> None:
        """Hold a constant: a weight as a parameter at a path that tells where it belongs."""
        if name not in constants or name in self._paths or name in self._plain:
            return
        value = constants[name]
        if not value.is_floating_point() or value.dim() == 0:
            self._plain[name] = value
            return
        *folders, leaf = _path_of(node, name)
        holder: nn.Module = self
        path = []
        for folder in folders:
            while hasattr(holder, folder) and folder not in holder._modules:
                folder += "_"
            if folder not in holder._modules:
                holder.add_module(folder, nn.Module())
            holder = holder.get_submodule(folder)
            path.append(folder)
        while hasattr(holder, leaf):
            leaf += "_"
        holder.register_parameter(leaf, nn.Parameter(value.contiguous(), requires_grad=False))
        self._paths[name] = ".".join([*path, leaf])


def read_model(path: Path) -> Any:
    """An ONNX file with its weights, also those in files beside it.

    Raises:
        UserError: It is no ONNX file, or names a file for its weights that does not lie beside it
            or below its folder.
    """
    from onnx import inliner
    from onnx.external_data_helper import load_external_data_for_model

    model = read_graph(path)
    try:
        load_external_data_for_model(model, str(path.parent))
        return inliner.inline_local_functions(model) if model.functions else model
    # Its errors have no base but Exception.
    except Exception as error:
        raise UserError(f"The weights of '{path}' cannot be read: {one_line(error)}") from error


def read_graph(path: Path) -> Any:
    """An ONNX file without the weights that lie in other files.

    Raises:
        UserError: As `read_model`, or the package onnx is not installed.
    """
    if find_spec("onnx") is None:
        raise UserError(f"The recognizer '{path}' needs: pip install onnx.")
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    # What is no file of this kind fails in protobuf's ways.
    except Exception as error:
        raise UserError(f"The model '{path}' is no ONNX file: {one_line(error)}") from error
    folder = path.parent.resolve()
    for name in weight_files(model):
        if not (folder / name).resolve().is_relative_to(folder):
            raise UserError(
                f"The model '{path}' takes weights from '{name}', which must lie in the folder"
                " of the model or below it."
            )
    return model


def input_sides(model: Any) -> list[int]:
    """The sides of a model's first input that is no weight, 0 for those that are not fixed."""
    weights = {value.name for value in model.graph.initializer}
    image = next(value for value in model.graph.input if value.name not in weights)
    return [int(side.dim_value) for side in image.type.tensor_type.shape.dim]


def weight_files(model: Any) -> list[str]:
    """The files that a model names for its weights, relative to its folder."""
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    return sorted(
        {
            entry.value
            for tensor in _get_all_tensors(model)
            if uses_external_data(tensor)
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )


def _several(result: Any) -> Sequence[Tensor]:
    return result if isinstance(result, tuple | list) else (result,)


def _tensor(value: Any) -> Tensor:
    """A TensorProto as a tensor; every float as float32."""
    from onnx import numpy_helper

    array = np.ascontiguousarray(numpy_helper.to_array(value))
    if array.dtype.kind in "US" or array.dtype.kind == "O":
        raise UnknownOperation("texts")
    if array.dtype.kind not in "biu":
        array = array.astype(np.float32)
    return torch.from_numpy(array.copy()).reshape(tuple(value.dims))


def _nodes(model: Any) -> list[Node]:
    """The nodes of a model, in the order of its file, which is one of execution."""
    from onnx import AttributeProto, helper

    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)

    def value(attribute: Any) -> Any:
        plain = helper.get_attribute_value(attribute)
        if attribute.type == AttributeProto.TENSOR:
            return _tensor(plain)
        return plain.decode() if attribute.type == AttributeProto.STRING else plain

    nodes = []
    for node in model.graph.node:
        domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
        graphs = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
        given = {a.name: None if a.type in graphs else value(a) for a in node.attribute}
        name = domain + node.op_type
        nodes.append(
            Node(
                name,
                _module_of(node) or node.name,
                tuple(node.input),
                tuple(node.output),
                given,
                opset,
            )
        )
    return nodes


def _module_of(node: Any) -> str:
    """The path of the module that a node is of, which torch's newer exporter writes beside it."""
    scopes = (x.value for x in node.metadata_props if x.key == "pkg.torch.onnx.name_scopes")
    # "['', 'blocks', 'blocks.0', 'linear']": the network, modules from outside in, the call.
    paths = re.findall(r"'([^']*)'", next(scopes, ""))
    return str(paths[-2]) if len(paths) > 1 else ""


def _needed(nodes: Sequence[Node], wanted: Collection[str]) -> list[Node]:
    """Those of the nodes that some outputs depend on."""
    names, kept = set(wanted), []
    for node in reversed(nodes):
        if names & set(node.outputs):
            kept.append(node)
            names.update(node.inputs)
    return kept[::-1]


def _folded(nodes: Sequence[Node], constants: dict[str, Tensor]) -> list[Node]:
    """The nodes that depend on the input; what the others give is added to the constants."""
    remaining = []
    with torch.no_grad():
        for node in nodes:
            if any(name and name not in constants for name in node.inputs):
                remaining.append(node)
                continue
            given = [constants[name] if name else None for name in node.inputs]
            results = _several(OPERATIONS[node.operation](node, *given))
            constants.update(zip(node.outputs, results, strict=False))
    return remaining


def _linear(node: Node, constants: dict[str, Tensor]) -> Node:
    """A product with a constant matrix as a linear layer, which has the matrix transposed.

    Layers are named by the weight that a call is given, so it must be the parameter itself.
    """
    matrix = constants.get(node.inputs[1]) if node.operation == "MatMul" else None
    if matrix is None or matrix.dim() != 2 or not matrix.is_floating_point():
        return node
    name = f"{node.inputs[1]} transposed"
    constants[name] = matrix.t().contiguous()
    return replace(node, operation="Gemm", inputs=(node.inputs[0], name), attributes={"transB": 1})


def _path_of(node: Node, name: str) -> list[str]:
    """Folders and leaf of a weight, from its own name or else from that of its node."""
    # A name of torch's exporter, as layer1.0.conv1.weight; not onnx::Conv_123, of a changed weight.
    if "." in name and "::" not in name:
        return [part for part in re.split(r"[./:]+", name) if part] or ["weight"]
    folders: list[str] = []
    for part in filter(None, node.name.split("/")):
        # torch writes /layer1/layer1.0/conv1/Conv.
        if folders and part.startswith(f"{folders[-1]}."):
            folders.pop()
        folders.append(part)
    if len(folders) > 1 and folders[-1].startswith((node.operation, "MatMul")):
        folders.pop()
    parts = [part for folder in folders for part in re.split(r"[./:]+", folder) if part]
    return [*(parts or [node.operation]), f"weight{list(node.inputs).index(name)}"]


# Layer normalization written as its arithmetic ----------------------------------------------------


def _fused_layer_norms(nodes: list[Node], constants: Mapping[str, Tensor]) -> list[Node]:
    """The nodes with (x - mean) / sqrt(variance + eps) * scale + bias as LayerNormalization.

    So exporters write it for operations before version 17. Nodes that are no longer needed stay.
    """
    made_by = {name: node for node in nodes for name in node.outputs}
    used_by: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            used_by.setdefault(name, []).append(node)
    numbers = dict(constants)
    for node in nodes:
        if node.operation == "Constant" and node.get("value") is not None:
            numbers[node.outputs[0]] = node.get("value")
        # Exporters write equal weights once.
        elif node.operation == "Identity" and node.inputs[0] in numbers:
            numbers[node.outputs[0]] = numbers[node.inputs[0]]

    def affine(operation: str, before: Node) -> tuple[Node, str] | None:
        """The only user of a value, where it applies a constant along the last axis to it."""
        users = used_by.get(before.outputs[0], [])
        if len(users) != 1 or users[0].operation != operation:
            return None
        other = [name for name in users[0].inputs if name != before.outputs[0]]
        fits = len(other) == 1 and other[0] in numbers and numbers[other[0]].dim() == 1
        return (users[0], other[0]) if fits else None

    replaced: dict[str, Node] = {}
    for node in nodes:
        if (normalized := _normalized(node, made_by, numbers)) is None:
            continue
        source, eps = normalized
        scaled = affine("Mul", node)
        shifted = affine("Add", scaled[0]) if scaled else None
        end = (shifted or scaled or (node, ""))[0]
        inputs = (source, *(part[1] for part in (scaled, shifted) if part))
        inputs = inputs if len(inputs) > 1 else (source, "")
        replaced[end.outputs[0]] = Node(
            "LayerNormalization", node.name, inputs, end.outputs, {"epsilon": eps}, 17
        )
    return [replaced.get(node.outputs[0], node) for node in nodes]


def _normalized(
    node: Node, made_by: Mapping[str, Node], numbers: Mapping[str, Tensor]
) -> tuple[str, float] | None:
    """What is normalized and epsilon, where a node divides it by its standard deviation."""

    def step(name: str, operation: str) -> Node | None:
        made = made_by.get(name)
        return made if made is not None and made.operation == operation else None

    def mean(name: str) -> Node | None:
        made = step(name, "ReduceMean")
        if made is None or not made.get("keepdims", 1):
            return None
        axes = made.get("axes", numbers.get(made.inputs[1]) if made.inputs[1:] else None)
        return made if axes is not None and [int(axis) for axis in axes] == [-1] else None

    centered = step(node.inputs[0], "Sub") if node.operation == "Div" else None
    root = step(node.inputs[1], "Sqrt") if centered else None
    total = step(root.inputs[0], "Add") if root else None
    if centered is None or total is None or total.inputs[1] not in numbers:
        return None
    variance = mean(total.inputs[0])
    square = step(variance.inputs[0], "Pow") if variance else None
    again = step(square.inputs[0], "Sub") if square else None
    if square is None or again is None or not _is_two(numbers.get(square.inputs[1])):
        return None
    first = mean(centered.inputs[1])
    same = again.inputs[0] == centered.inputs[0] and mean(again.inputs[1]) is not None
    if first is None or not same or first.inputs[0] != centered.inputs[0]:
        return None
    return centered.inputs[0], float(numbers[total.inputs[1]].reshape(()))


def _is_two(value: Tensor | None) -> bool:
    return value is not None and value.numel() == 1 and float(value.reshape(())) == 2.0
