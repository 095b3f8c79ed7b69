"""What PyTorch and PEFT say of a model: loss, gradients (float64) and ten AdamW updates (float32)."""
import copy
import json
from pathlib import Path

import torch
from families import IGNORED, Family
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

METHODS = ("lora", "lora-all", "full")
OPTIMIZER = {"name": "AdamW", "lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0}
STEPS = 10
"""Nats between float32 and float64 that a trajectory may differ by: AdamW turns the sign of a rounding error into a step."""
STABLE = 1e-5
ATTEMPTS = 8

Tensors = dict[str, torch.Tensor]


def targets_of(model: nn.Module, family: Family, method: str) -> list[str]:
    """Whole paths, so that none is mistaken: modules of those names, or every linear layer that is no head."""
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    heads = (*family.heads, "lm_head", "embed_out")
    body = sorted(name for name in linear if name.split(".")[0] not in heads)
    return [name for name in body if method == "lora-all" or name.split(".")[-1] in family.targets]


def adapted(base: nn.Module, family: Family, method: str) -> nn.Module:
    """A copy of the model in which no trainable tensor is zero."""
    model = copy.deepcopy(base)
    if method == "full":
        return model
    config = LoraConfig(
        r=3,
        lora_alpha=6,
        target_modules=targets_of(model, family, method),
        modules_to_save=list(family.heads) or None,
        bias="none",
    )
    model = get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data.normal_(std=0.2)
    return model.eval()


def loss_of(logits: torch.Tensor, labels: torch.Tensor, causal: bool) -> torch.Tensor:
    if causal:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)


class Exactly(TorchFunctionMode):
    """Everything in float64, the softmax and the norms included for which models ask for float32 by name."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def widened(value):
            return torch.float64 if value is torch.float32 else value

        func = torch.Tensor.double if func is torch.Tensor.float else func
        return func(*map(widened, args), **{key: widened(value) for key, value in (kwargs or {}).items()})


def _floats(inputs: Tensors, dtype: torch.dtype) -> Tensors:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}


def _forward(model: nn.Module, inputs: Tensors, causal: bool) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = dict(inputs)
    labels = inputs.pop("labels")
    logits = model(**inputs).logits
    return logits, loss_of(logits, labels, causal)


def _stored(model: nn.Module, tensors: Tensors, method: str) -> Tensors:
    """By the keys of `adapter_model.safetensors`, or of `state.safetensors`."""
    return tensors if method == "full" else get_peft_model_state_dict(model, state_dict=tensors)


def gradients_of(model: nn.Module, inputs: Tensors, method: str, family: Family) -> Tensors:
    """Loss, logits and the gradient of every trainable tensor that the loss depends on."""
    model = copy.deepcopy(model).double()
    with Exactly():
        logits, loss = _forward(model, _floats(inputs, torch.float64), family.causal)
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    floats = {
        family.renamed.get(name, name): grad.float().contiguous() for name, grad in _stored(model, grads, method).items()
    }
    return {"loss": loss.detach(), "logits": logits.detach().float().contiguous(), **floats}


def trajectory_of(model: nn.Module, inputs: Tensors, causal: bool, dtype: torch.dtype) -> list[float]:
    """Losses before each update and after the last."""
    model = copy.deepcopy(model).to(dtype)
    inputs = _floats(inputs, dtype)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    options = {key: value for key, value in OPTIMIZER.items() if key != "name"}
    optimizer = torch.optim.AdamW(trained, **{**options, "betas": tuple(OPTIMIZER["betas"])})
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = _forward(model, inputs, causal)[1]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [*losses, _forward(model, inputs, causal)[1].item()]


def _difference(single: list[float], double: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(single, double, strict=True))


def _run(base: nn.Module, family: Family, inputs: Tensors, method: str):
    """The adapted model and its two trajectories, from the first start where rounding does not change the path."""
    for seed in range(ATTEMPTS):
        torch.manual_seed(seed)
        model = adapted(base, family, method)
        single = trajectory_of(model, inputs, family.causal, torch.float32)
        with Exactly():
            double = trajectory_of(model, inputs, family.causal, torch.float64)
        if _difference(single, double) < STABLE:
            break
    return model, single, double


def _split(losses: list[float], suffix: str) -> dict[str, object]:
    return {f"losses{suffix}": losses[:-1], f"loss_after{suffix}": losses[-1]}


def write_method(folder: Path, base: nn.Module, family: Family, inputs: Tensors, method: str) -> None:
    """The folder of one method: start values, gradients, trajectory."""
    model, single, double = _run(base, family, inputs, method)
    folder.mkdir(parents=True, exist_ok=True)
    if method != "full":
        model.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
    save_file(gradients_of(model, inputs, method, family), folder / "expected.safetensors")
    facts = {"optimizer": OPTIMIZER, "steps": STEPS, "dtype": "float32", **_split(single, ""), **_split(double, "_float64")}
    (folder / "trajectory.json").write_text(json.dumps(facts, indent=1))


def state_of(model: nn.Module, gradients: Tensors, family: Family) -> Tensors:
    """Parameters that the loss depends on, tied ones once: what the graph holds."""
    named = {family.renamed.get(name, name): p.detach().contiguous() for name, p in model.named_parameters()}
    return {name: value for name, value in named.items() if name in gradients}
