"""Greedy continuations by Hugging Face transformers, as JSON on stdout.

usage: generate.py MODEL PROMPTS [ADAPTER...]

MODEL is a folder with a model and its tokenizer, PROMPTS a JSON list of [prompt, tokens]. Without adapters a list of
{prompt, promptIds, ids, text}; with adapters a mapping from the name of each folder to such a list.
"""
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def continuations(model, tokenizer, prompts):
    found = []
    for prompt, tokens in prompts:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            whole = model.generate(input_ids=ids, max_new_tokens=tokens, do_sample=False)[0]
        new = whole[ids.shape[1] :].tolist()
        text = tokenizer.decode(whole, skip_special_tokens=True)[len(tokenizer.decode(ids[0], skip_special_tokens=True)) :]
        found.append({"prompt": prompt, "promptIds": ids[0].tolist(), "ids": new, "text": text})
    return found


def main(folder, prompts, adapters):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = lambda: AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    if not adapters:
        return continuations(base(), tokenizer, prompts)
    return {
        adapter.name: continuations(PeftModel.from_pretrained(base(), str(adapter)).eval(), tokenizer, prompts)
        for adapter in adapters
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]), [Path(path) for path in sys.argv[3:]])))
