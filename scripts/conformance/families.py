"""Tiny models of the families that peertune trains: hidden size 32, two layers, random weights."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import transformers as hf
from torch import nn

BATCH, SEQUENCE, VOCABULARY, CLASSES, PAD = 3, 9, 64, 4, 1
IGNORED = -100


@dataclass(frozen=True)
class Family:
    make: Callable[[str], nn.Module]
    """Attention implementation -> model whose output has `logits`."""
    inputs: Callable[[], dict[str, torch.Tensor]]
    """One batch, `labels` included."""
    targets: tuple[str, ...]
    """Last segments of the modules that the method `lora` adapts."""
    heads: tuple[str, ...] = ()
    """Modules trained whole."""
    causal: bool = False
    attention: tuple[str, ...] = ("eager", "sdpa")
    """Implementations, for the TorchScript and for the dynamo exporter."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Tied parameters that PyTorch lists under a module that is never called -> the name by the module that is."""


class MeanPooled(nn.Module):
    """An encoder without a head of its own, under the mean of its tokens and a linear classifier."""

    base_model_prefix = "model"

    def __init__(self, architecture: str, encoder: nn.Module) -> None:
        super().__init__()
        self.config = encoder.config
        self.config.architectures = [architecture]
        self.model = encoder
        self.classifier = nn.Linear(self.config.hidden_size, CLASSES)

    def forward(self, input_ids, attention_mask):
        states = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask = attention_mask[:, :, None].to(states.dtype)
        logits = self.classifier((states * mask).sum(1) / mask.sum(1))
        return hf.modeling_outputs.SequenceClassifierOutput(logits=logits)


class Projected(nn.Module):
    """CLIP's text tower with its projection, under a linear classifier."""

    base_model_prefix = "model"

    def __init__(self, architecture: str, tower: nn.Module) -> None:
        super().__init__()
        self.config = tower.config
        self.config.architectures = [architecture]
        self.model = tower
        self.classifier = nn.Linear(self.config.projection_dim, CLASSES)

    def forward(self, input_ids, attention_mask):
        logits = self.classifier(self.model(input_ids=input_ids, attention_mask=attention_mask).text_embeds)
        return hf.modeling_outputs.SequenceClassifierOutput(logits=logits)


def _tokens(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Token ids with padding behind two of three rows."""
    lengths = torch.tensor([SEQUENCE, SEQUENCE - 3, SEQUENCE - 5])
    mask = (torch.arange(SEQUENCE)[None] < lengths[:, None]).long()
    ids = torch.randint(4, VOCABULARY - 1, (BATCH, SEQUENCE))
    return {"input_ids": ids * mask + PAD * (1 - mask), "attention_mask": mask, **more}


def _labels() -> torch.Tensor:
    return torch.tensor([2, 0, 3])


def text() -> dict[str, torch.Tensor]:
    return {**_tokens(), "labels": _labels()}


def text_pairs() -> dict[str, torch.Tensor]:
    kinds = (torch.arange(SEQUENCE)[None] > 3).long().expand(BATCH, -1).contiguous()
    return {**_tokens(token_type_ids=kinds), "labels": _labels()}


def clip_text() -> dict[str, torch.Tensor]:
    """CLIP pools at the first end-of-text token, the highest id."""
    inputs = text()
    last = inputs["attention_mask"].sum(1) - 1
    inputs["input_ids"][torch.arange(BATCH), last] = VOCABULARY - 1
    return inputs


def causal() -> dict[str, torch.Tensor]:
    """Labels are the ids, but for padding and the first two tokens of a row (a question, say)."""
    inputs = _tokens()
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED)
    labels[:, :2] = IGNORED
    return {**inputs, "labels": labels}


def images(size: int) -> Callable[[], dict[str, torch.Tensor]]:
    return lambda: {"pixel_values": torch.randn(BATCH, 3, size, size), "labels": _labels()}


def spectrograms(mels: int, frames: int) -> Callable[[], dict[str, torch.Tensor]]:
    return lambda: {"input_features": torch.randn(BATCH, mels, frames), "labels": _labels()}


def _from(architecture: str, **config: object) -> Callable[[str], nn.Module]:
    kind = getattr(hf, architecture)
    return lambda attention: kind._from_config(kind.config_class(**config), attn_implementation=attention)


def _wrapped(wrapper: type, architecture: str, encoder: str, **config: object) -> Callable[[str], nn.Module]:
    return lambda attention: wrapper(architecture, _from(encoder, **config)(attention))


NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "num_labels": CLASSES,
    "pad_token_id": PAD,
    **NO_DROPOUT,
}
DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "pad_token_id": PAD,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "use_cache": False,
}
GROUPED = {**DECODER, "num_key_value_heads": 2}
IMAGE = {
    "image_size": 16,
    "patch_size": 4,
    "num_channels": 3,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": CLASSES,
}
CLIP_TEXT = {**{k: v for k, v in ENCODER.items() if k != "num_labels"}, "projection_dim": 24, "eos_token_id": VOCABULARY - 1}

QV = ("q_proj", "v_proj")
HEAD = ("classifier",)

FAMILIES: Mapping[str, Family] = {
    "distilbert": Family(
        _from(
            "DistilBertForSequenceClassification", vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=48,
            max_position_embeddings=24, num_labels=CLASSES, pad_token_id=PAD, dropout=0.0, attention_dropout=0.0,
            seq_classif_dropout=0.0,
        ),
        text, ("q_lin", "v_lin"), ("pre_classifier", "classifier"),
    ),
    "roberta": Family(
        _from("RobertaForSequenceClassification", **{**ENCODER, "type_vocab_size": 1}), text, ("query", "value"), HEAD
    ),
    "albert": Family(
        _from("AlbertForSequenceClassification", **ENCODER, embedding_size=16, classifier_dropout_prob=0.0),
        text_pairs, ("query", "value"), HEAD,
    ),
    "electra": Family(
        _from("ElectraForSequenceClassification", **ENCODER, embedding_size=16), text_pairs, ("query", "value"), HEAD
    ),
    "opt": Family(
        _from("OPTForCausalLM", **{**DECODER, "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
        causal, QV, causal=True,
    ),
    "gpt-neox": Family(_from("GPTNeoXForCausalLM", **DECODER), causal, ("query_key_value",), causal=True),
    "mistral": Family(_from("MistralForCausalLM", **GROUPED, sliding_window=4), causal, QV, causal=True),
    "qwen2": Family(_from("Qwen2ForCausalLM", **GROUPED, tie_word_embeddings=True), causal, QV, causal=True),
    "qwen3": Family(_from("Qwen3ForCausalLM", **GROUPED, head_dim=12), causal, QV, causal=True),
    "phi": Family(_from("PhiForCausalLM", **DECODER, partial_rotary_factor=0.5), causal, QV, causal=True),
    "gemma": Family(_from("GemmaForCausalLM", **GROUPED, head_dim=12), causal, QV, causal=True),
    "gemma2": Family(
        _from("Gemma2ForCausalLM", **GROUPED, head_dim=12, sliding_window=4, query_pre_attn_scalar=10),
        causal, QV, causal=True, attention=("eager", "eager"),
    ),
    "gemma3": Family(
        _from("Gemma3ForCausalLM", **GROUPED, head_dim=12, sliding_window=4, query_pre_attn_scalar=10),
        causal, QV, causal=True,
    ),
    "deit": Family(_from("DeiTForImageClassification", **IMAGE, **NO_DROPOUT), images(16), QV, HEAD),
    "swin": Family(
        _from(
            "SwinForImageClassification", image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4],
            window_size=4, num_labels=CLASSES, drop_path_rate=0.0, **NO_DROPOUT,
        ),
        images(32), QV, HEAD, attention=("eager", "eager"),
    ),
    "convnext": Family(
        _from(
            "ConvNextForImageClassification", num_stages=2, hidden_sizes=[16, 32], depths=[1, 2], num_labels=CLASSES,
        ),
        images(32), ("pwconv1", "pwconv2"), HEAD, attention=("eager", "eager"),
    ),
    "clip-text": Family(
        _wrapped(Projected, "CLIPTextForSequenceClassification", "CLIPTextModelWithProjection", **CLIP_TEXT),
        clip_text, QV, HEAD,
    ),
    "clip-vision": Family(
        _from("CLIPForImageClassification", vision_config=IMAGE, text_config=CLIP_TEXT, num_labels=CLASSES),
        images(16), QV, HEAD,
    ),
    "whisper": Family(
        _from(
            "WhisperForAudioClassification", vocab_size=VOCABULARY, d_model=32, encoder_layers=2,
            encoder_attention_heads=4, encoder_ffn_dim=48, decoder_layers=1, num_mel_bins=8, max_source_positions=10,
            classifier_proj_size=16, num_labels=CLASSES, dropout=0.0, pad_token_id=PAD, decoder_start_token_id=2,
        ),
        spectrograms(8, 20), QV, ("projector", "classifier"),
    ),
    "t5": Family(
        _wrapped(
            MeanPooled, "T5EncoderForSequenceClassification", "T5EncoderModel", vocab_size=VOCABULARY, d_model=32, d_kv=8,
            d_ff=48, num_layers=2, num_heads=4, relative_attention_num_buckets=8, relative_attention_max_distance=16,
            dropout_rate=0.0, pad_token_id=PAD, feed_forward_proj="gated-gelu",
        ),
        text, ("q", "v"), HEAD, attention=("eager", "eager"),
        renamed={"model.shared.weight": "model.encoder.embed_tokens.weight"},
    ),
}
