"""Logits of a Hugging Face model with adapters loaded by PEFT.

usage: load_adapter.py CASE OUT ADAPTER...

CASE holds config.json, state.safetensors and inputs.safetensors; for every ADAPTER folder, logits go to
OUT/<name of the folder>.safetensors. Positions that a prompt puts in front of the text are cut off.
"""
import sys
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file


def base_model(case: Path) -> torch.nn.Module:
    config = transformers.AutoConfig.from_pretrained(case)
    model = getattr(transformers, config.architectures[0])._from_config(config, attn_implementation="eager")
    missing, unexpected = model.load_state_dict(load_file(case / "state.safetensors"), strict=False)
    assert not unexpected, unexpected
    assert all(name in ("lm_head.weight",) for name in missing), missing
    return model.eval()


def main(case: Path, out: Path, adapters: list[Path]) -> None:
    inputs = load_file(case / "inputs.safetensors")
    inputs.pop("labels")
    for adapter in adapters:
        model = PeftModel.from_pretrained(base_model(case), str(adapter)).eval()
        with torch.no_grad():
            logits = model(**inputs).logits
        if logits.dim() == 3:
            logits = logits[:, -inputs["input_ids"].shape[1] :]
        save_file({"logits": logits.contiguous().float()}, out / f"{adapter.name}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(path) for path in sys.argv[3:]])
