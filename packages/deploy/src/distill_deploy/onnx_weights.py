"""Weights of an ONNX file: shared ones written once, and int8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx

_SHARED = "_transposed"


def share_transposed(path: Path) -> None:
    """Write a matrix once that the exporter wrote twice, as it is and transposed: embeddings tied to a head.

    The copy becomes a Transpose of the other, which onnxruntime computes once, when it loads the file.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    arrays = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer if len(one.dims) == 2}
    homes = {(array.shape, array.tobytes()): name for name, array in arrays.items()}
    nodes: list[onnx.NodeProto] = []
    for name, array in arrays.items():
        home = homes.get((array.T.shape, np.ascontiguousarray(array.T).tobytes()))
        if home is not None and home != name and home not in {node.output[0] for node in nodes}:
            nodes.append(helper.make_node("Transpose", [home], [name], f"{name}{_SHARED}", perm=[1, 0]))
    _replace(model, {node.output[0] for node in nodes}, nodes)
    onnx.save(model, path)


def quantize_weights(path: Path, out: Path, *, activations: bool) -> None:
    """Store the matrices of an ONNX file as 8-bit integers.

    Args:
        path: The float32 file.
        out: Where the int8 file goes.
        activations: Multiply with activations that onnxruntime rounds to 8 bits on the fly; weights are
            unsigned then, one scale each, since signed ones saturate on CPUs without VNNI (onnxruntime's
            documentation, "When and why do I need to try U8U8"). Matrices that are shared are computed with
            in float32 all the same. False rounds the weights alone, with a scale for each output.
    """
    import onnx
    from onnx import helper, numpy_helper
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    arrays = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer if len(one.dims) == 2}
    axes = {node.input[0]: 0 for node in model.graph.node if node.name.endswith(_SHARED)}
    if not activations:
        axes |= {node.input[0]: 0 for node in _nodes(model.graph) if node.op_type == "Gather"}
        axes |= {node.input[1]: 1 for node in _nodes(model.graph) if node.op_type == "MatMul"}
    nodes, added = [], []
    for name, axis in axes.items():
        if name not in arrays:
            continue
        scale = np.maximum(np.abs(arrays[name]).max(1 - axis), np.finfo(np.float32).tiny) / 127
        rounded = np.round(arrays[name] / np.expand_dims(scale, 1 - axis)).astype(np.int8)
        added.append(numpy_helper.from_array(rounded, f"{name}_int8"))
        added.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
        inputs = [f"{name}_int8", f"{name}_scale"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], f"{name}_float", axis=axis))
    _replace(model, {node.output[0] for node in nodes}, nodes)
    model.graph.initializer.extend(added)
    onnx.save(model, out)
    if activations:
        mixed = out.with_name("mixed.onnx")
        out.replace(mixed)
        quantize_dynamic(mixed, out, weight_type=QuantType.QUInt8)
        mixed.unlink()


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those within branches too; a branch reads the weights of the graph around it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _replace(model: onnx.ModelProto, names: set[str], nodes: list[onnx.NodeProto]) -> None:
    """Take the initializers out, and put in front the nodes that compute them instead."""
    kept = [one for one in model.graph.initializer if one.name not in names]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
