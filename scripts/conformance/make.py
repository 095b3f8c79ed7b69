"""Tiny models of many families, exported by both of PyTorch's exporters, with the gradients that PyTorch and PEFT compute.

usage: make.py OUT [--family NAME ...] [--case dynamo:18 ...] [--method lora ...]

Writes OUT/<family>-<exporter>-<opset>/ in the layout that `npm run bench -- conformance --dir OUT` reads. Needs torch,
transformers, peft, onnx and onnxscript. A case that the exporter itself refuses is named and skipped.
"""
import argparse
import logging
import warnings
from pathlib import Path

import onnx
import onnx.numpy_helper
import torch
import transformers
from families import FAMILIES, Family
from reference import METHODS, gradients_of, state_of, write_method
from safetensors.torch import save_file
from torch import nn

CASES = ("torchscript:14", "torchscript:17", "dynamo:18", "dynamo:20", "dynamo:23")
SEED = 20
"""The one kind of the dynamo exporter's notes that is read; the others (Python's stack, say) are most of a tiny file."""
NAME_SCOPES = "pkg.torch.onnx.name_scopes"


class Logits(nn.Module):
    """A model that returns logits alone, as people wrap it for an export."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, values, strict=True))).logits


def randomised(model: nn.Module) -> nn.Module:
    """Weights of the size that keeps activations about 1; every norm, bias and scale differs from its start."""
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.dim() < 2:
            parameter.data += 0.1 * noise
        else:
            parameter.data = noise * min(0.5, parameter[0].numel() ** -0.5)
    return model.eval()


def build(family: Family, attention: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The same weights and batch every time, whatever the attention."""
    torch.manual_seed(SEED)
    transformers.set_seed(SEED)
    model = randomised(family.make(attention))
    model.config.use_cache = False
    return model, family.inputs()


def dynamic_axes(name: str) -> dict[int, str]:
    return {0: "batch", 1: "sequence"} if name in ("input_ids", "attention_mask", "token_type_ids") else {0: "batch"}


def export(model: nn.Module, inputs: dict[str, torch.Tensor], path: Path, exporter: str, opset: int) -> None:
    names = [name for name in inputs if name != "labels"]
    values = tuple(inputs[name] for name in names)
    common = {"input_names": names, "output_names": ["logits"], "opset_version": opset}
    wrapped = Logits(model, names)
    if exporter == "torchscript":
        axes = {name: dynamic_axes(name) for name in names}
        torch.onnx.export(wrapped, values, str(path), dynamo=False, dynamic_axes=axes, **common)
        return
    shapes = tuple({axis: torch.export.Dim(dim) for axis, dim in dynamic_axes(name).items()} for name in names)
    program = torch.onnx.export(wrapped, values, dynamo=True, dynamic_shapes=(shapes,), verbose=False, **common)
    proto = program.model_proto
    for node in proto.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key == NAME_SCOPES]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    for value in (*proto.graph.value_info, *proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    onnx.save(proto, path)


def freeze_folded(model: nn.Module, path: Path) -> None:
    """A parameter that the exporter made part of another constant (Gemma's 1 + weight) is none that the graph has."""
    constants = (onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer)
    held = {(value.shape, value.tobytes()) for value in constants}
    for parameter in model.parameters():
        value = parameter.detach().numpy()
        views = [value, value.T] if value.ndim == 2 else [value]
        parameter.requires_grad &= any((view.shape, view.tobytes()) in held for view in views)


def write_case(folder: Path, family: Family, exporter: str, opset: int, methods: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model, inputs = build(family, family.attention[0 if exporter == "torchscript" else 1])
    export(model, inputs, folder / "model.onnx", exporter, opset)
    # A tracer may leave its marks in a model: the numbers come from a fresh one.
    model, inputs = build(family, "eager")
    freeze_folded(model, folder / "model.onnx")
    save_file({name: value.contiguous() for name, value in inputs.items()}, folder / "inputs.safetensors")
    if not model.config.architectures:
        model.config.architectures = [type(model).__name__]
    model.config.to_json_file(folder / "config.json")
    if "full" in methods:
        state = state_of(model, gradients_of(model, inputs, "full", family), family)
        save_file(state, folder / "state.safetensors")
    for method in methods:
        write_method(folder / method, model, family, inputs, method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--family", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--case", nargs="*", default=list(CASES))
    parser.add_argument("--method", nargs="*", default=list(METHODS), choices=METHODS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for name in options.family:
        for case in options.case:
            exporter, opset = case.split(":")
            folder = options.out / f"{name}-{exporter}-{opset}"
            try:
                write_case(folder, FAMILIES[name], exporter, int(opset), options.method)
                print(folder.name, flush=True)
            except Exception as error:  # the exporters raise everything there is
                (folder / "model.onnx").unlink(missing_ok=True)
                print(f"{folder.name}: {type(error).__name__}: {str(error).splitlines()[:1]}", flush=True)


if __name__ == "__main__":
    main()
