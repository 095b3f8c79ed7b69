"""Writes regression.json: loss, gradients and correlation of a BERT that ends in one number, by PyTorch (torch 2.13, transformers
5.18). Takes the folder of the conformance case bert-torchscript with its state.safetensors; the inputs are those beside this file."""
import json, math, os, sys
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification

HERE = os.path.dirname(os.path.abspath(__file__))
case = sys.argv[1]
config = BertConfig.from_pretrained(case); config.num_labels = 1; config.problem_type = "regression"
model = BertForSequenceClassification(config).eval()
state = load_file(os.path.join(case, "state.safetensors"))
state["classifier.weight"] = torch.tensor([[math.sin(i + 1) / 2 for i in range(config.hidden_size)]])
state["classifier.bias"] = torch.tensor([0.25])
model.load_state_dict(state)
inputs = load_file(os.path.join(HERE, "conformance", "bert-torchscript", "inputs.safetensors"))
labels = torch.tensor([0.5, -1.25, 3.0])
out = model(**{k: v for k, v in inputs.items() if k != "labels"}, labels=labels)
out.loss.backward()
with open(os.path.join(HERE, "regression.json"), "w") as f:
    json.dump({"labels": labels.tolist(), "loss": out.loss.item(), "predictions": out.logits.flatten().tolist(),
               "weight": model.classifier.weight.grad.flatten().tolist(), "bias": model.classifier.bias.grad.tolist(),
               "correlation": torch.corrcoef(torch.stack([out.logits.flatten().double(), labels.double()]))[0, 1].item()}, f)
