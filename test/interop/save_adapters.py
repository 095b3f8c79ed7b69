"""Adapters that PEFT makes, saves and computes with.

usage: save_adapters.py CASE OUT [VARIANT...]

CASE holds config.json, state.safetensors and inputs.safetensors. For every variant of `VARIANTS` that the model takes
(or those named), OUT/<variant> becomes an adapter folder with random weights and OUT/<variant>/expected.safetensors the
logits of the model with it. Prints the names, one a line.
"""
import sys
from pathlib import Path

import torch
from load_adapter import base_model
from peft import (
    AdaLoraConfig,
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file

TARGETS = {"bert": ["query", "value"], "gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"], "vit": ["q_proj", "v_proj"]}
IA3 = {
    "bert": (["key", "value", "output.dense"], ["output.dense"]),
    "gpt2": (["c_attn", "mlp.c_proj"], ["mlp.c_proj"]),
    "llama": (["k_proj", "v_proj", "down_proj"], ["down_proj"]),
    "vit": (["k_proj", "v_proj", "fc2"], ["fc2"]),
}
NORMS = {"bert": ["LayerNorm"], "gpt2": ["ln_1", "ln_2"], "llama": ["input_layernorm", "norm"], "vit": ["layernorm_before"]}


def configs(kind, config):
    task = {"bert": "SEQ_CLS", "gpt2": "CAUSAL_LM", "llama": "CAUSAL_LM", "vit": None}[kind]
    common = {"task_type": task}
    if kind == "vit":
        common["modules_to_save"] = ["classifier"]
    lora = {**common, "r": 4, "lora_alpha": 6, "target_modules": TARGETS[kind], "fan_in_fan_out": kind == "gpt2"}
    first = TARGETS[kind][0]
    targets, feedforward = IA3[kind]
    found = {
        "lora": LoraConfig(**lora),
        "rslora": LoraConfig(**lora, use_rslora=True),
        "dora": LoraConfig(**lora, use_dora=True),
        "lora-patterns": LoraConfig(**lora, rank_pattern={rf"1\..*\.{first}": 2}, alpha_pattern={first: 9}),
        "rslora-patterns": LoraConfig(**lora, use_rslora=True, rank_pattern={first: 3}, alpha_pattern={first: 2}),
        "lora-half": LoraConfig(**lora),
        "lora-brain-half": LoraConfig(**lora),
        "adalora": AdaLoraConfig(
            **{**common, "init_r": 5, "target_r": 3, "lora_alpha": 7, "target_modules": TARGETS[kind]},
            total_step=10,
            fan_in_fan_out=kind == "gpt2",
        ),
        "ia3": IA3Config(
            **common, target_modules=targets, feedforward_modules=feedforward, fan_in_fan_out=kind == "gpt2"
        ),
        "lntuning": LNTuningConfig(**common, target_modules=NORMS[kind]),
    }
    if kind != "vit":
        found["prompt"] = PromptTuningConfig(task_type=task, num_virtual_tokens=3)
        found["p-tuning"] = PromptEncoderConfig(task_type=task, num_virtual_tokens=3, encoder_hidden_size=16)
    if kind in ("gpt2", "llama"):
        found["prefix"] = PrefixTuningConfig(task_type=task, num_virtual_tokens=3)
    return found


def randomise(model):
    """Nothing stays at its start, where mistakes would not show."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "ranknum" not in name:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.2 * noise


def main(case, out, names):
    inputs = load_file(case / "inputs.safetensors")
    inputs.pop("labels")
    kind = case.name.split("-")[0]
    for name, config in configs(kind, None).items():
        if names and name not in names:
            continue
        torch.manual_seed(3)
        model = get_peft_model(base_model(case), config)
        randomise(model)
        model.eval()
        folder = out / name
        if name.endswith("half"):
            # Weights that 16 bits hold exactly, saved in 16 bits: what is loaded computes the same.
            dtype = torch.float16 if name == "lora-half" else torch.bfloat16
            for _, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype).float()
        with torch.no_grad():
            logits = model(**inputs).logits
        model.save_pretrained(str(folder))
        if name.endswith("half"):
            path = folder / "adapter_model.safetensors"
            save_file({key: value.to(dtype) for key, value in load_file(path).items()}, path, {"format": "pt"})
        if logits.dim() == 3:
            logits = logits[:, -inputs["input_ids"].shape[1] :]
        save_file({"logits": logits.contiguous().float()}, folder / "expected.safetensors")
        print(name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
