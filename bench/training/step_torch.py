"""PyTorch's side of the step bench: eager mode, Hugging Face model, PEFT adapter, AdamW, no dropout.

Takes the JSON of a step specification as its argument and answers one command a line on stdin (step, peak, quit) with one
line of JSON, like step-worker.ts. Weights are random: speed and memory do not depend on them.
"""

import json
import os
import resource
import sys
import time

spec = json.loads(sys.argv[1])
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(spec["threads"])

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

torch.set_num_threads(spec["threads"])
torch.manual_seed(0)


def llama(hidden, layers, heads, kv, intermediate, vocabulary):
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv,
            intermediate_size=intermediate,
            vocab_size=vocabulary,
        )
    )


MODELS = {
    "bert-base": lambda: BertForSequenceClassification(BertConfig()),
    "gpt2-small": lambda: GPT2LMHeadModel(GPT2Config()),
    "llama-mini": lambda: llama(512, 4, 8, 2, 1376, 4096),
    "llama-1b": lambda: llama(2048, 22, 32, 4, 5632, 32000),
    "stories260k": lambda: llama(64, 5, 8, 4, 172, 512),
}

peft = spec["peft"]
lora = LoraConfig(
    r=peft["rank"],
    lora_alpha=peft["alpha"],
    target_modules=peft["targets"],
    modules_to_save=peft["head"] or None,
    fan_in_fan_out=spec["shape"].startswith("gpt2"),
)
model = get_peft_model(MODELS[spec["shape"]](), lora).eval()
parameters = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(parameters, lr=1e-4)

ids = torch.randint(0, spec["vocabulary"], (spec["batch"], spec["seq"]))
batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
if spec["task"]["kind"] == "causal-lm":
    batch["labels"] = ids
else:
    batch["labels"] = torch.arange(spec["batch"]) % len(spec["task"]["labels"])


def step():
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def peak_rate(shapes):
    """Floating-point operations a millisecond of torch's own product, [m, k] times [n, k] transposed, at its best shape."""
    best = 0
    for m, k, n in shapes:
        a, b = torch.randn(m, k), torch.randn(n, k)
        a @ b.T
        wall = time.perf_counter()
        for _ in range(4):
            a @ b.T
        best = max(best, 4 * 2 * m * k * n / ((time.perf_counter() - wall) * 1000))
    return best


def say(value):
    print(json.dumps(value), flush=True)


start = time.perf_counter()
loss = step()
say(
    {
        "ready": True,
        "firstStepMs": (time.perf_counter() - start) * 1000,
        "loss": loss,
        "parameters": sum(p.numel() for p in parameters),
    }
)
for line in sys.stdin:
    command = line.strip()
    if command == "step":
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        say(
            {
                "wallMs": (time.perf_counter() - wall) * 1000,
                "cpuMs": (time.process_time() - cpu) * 1000,
            }
        )
    elif command.startswith("gemm "):
        say({"perWallMs": peak_rate(json.loads(command[5:]))})
    elif command == "peak":
        say({"peakMb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
    else:
        break
