"""Writes instruction.json: the loss of a Llama on the assistant's turns alone, by PyTorch (torch 2.13, transformers 5.18), for the
conversations of ../data/golden/transformers.json. Takes the folder of the conformance case llama-dynamo with its state.safetensors."""
import json, os, sys
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
case = sys.argv[1]
model = LlamaForCausalLM(LlamaConfig.from_pretrained(case)).eval()
missing, unexpected = model.load_state_dict(load_file(os.path.join(case, "state.safetensors")), strict=False)
assert not unexpected and all(name == "lm_head.weight" for name in missing), (missing, unexpected)
model.tie_weights()
chats = json.load(open(os.path.join(HERE, "..", "data", "golden", "transformers.json")))["chats"]
rows = []
for chat in chats:
    ids, mask = torch.tensor([chat["ids"]]), torch.tensor([chat["mask"]])
    loss = model(input_ids=ids, labels=torch.where(mask == 1, ids, -100)).loss
    rows.append({"loss": loss.item(), "count": int(mask[:, 1:].sum())})
json.dump(rows, open(os.path.join(HERE, "instruction.json"), "w"))
