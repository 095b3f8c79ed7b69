"""Writes transformers.json and the tokenizers beside this file: what transformers makes of pairs, of words with labels and
of conversations. Run with transformers 5.18 and tokenizers 0.23; the tests need only what it wrote.

The .parquet files are by the Rust implementation of Arrow (parquet-wasm 0.8.0): 12 rows in row groups of 5, of
text, label (i % 2), score (i / 4 - 1), tokens and tags (lists of 1 to 3).
"""
import json, os
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
TEXT = ["the cat sat on the mat and the dogs ran home again", "Who are you? I am a small model, I answer questions.",
        "user system assistant what is two plus two? It is four!", "unbelievable running jumping sitting happily"]

def wordpiece():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + sorted({c for t in TEXT for c in t.lower() if not c.isspace()})
    words += ["##" + c for c in "abcdefghijklmnopqrstuvwxyz"] + ["the", "cat", "dog", "##s", "un", "##bel", "run", "##ning", "sat", "home"]
    t = Tokenizer(models.WordPiece({w: i for i, w in enumerate(dict.fromkeys(words))}, unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))])
    return PreTrainedTokenizerFast(tokenizer_object=t, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")

def bytelevel():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=318, special_tokens=["<|im_start|>", "<|im_end|>"],
                          initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=t, eos_token="<|im_end|>", pad_token="<|im_end|>")

PLAIN = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
MARKED = """{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
        {{- '\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
CHATS = [
    [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am a small model."}],
    [{"role": "system", "content": "answer questions"}, {"role": "user", "content": "what is two plus two?"},
     {"role": "assistant", "content": "It is four!"}, {"role": "user", "content": "again"},
     {"role": "assistant", "content": " four, again\nand again…"}],
]
PAIRS = [["the cat sat", "the dogs ran home"], ["cat", "the dogs ran home again and again and again"],
         ["unbelievable running jumping sitting happily", "the mat"], ["a b c d e f g h", "i j k l m n o p q"]]
WORDS = [(["The", "dogs", "ran", "unbelievable", "home"], [0, 1, 0, 2, 0]), (["cat"], [2]),
         (["running", "happily", "cat", "sat", "jumping"], [1, 0, 2, 0, 1])]

def align(tok, words, tags, length):
    """tokenize_and_align_labels of transformers' run_ner.py, label_all_tokens False."""
    enc = tok([words], is_split_into_words=True, truncation=True, max_length=length)
    labels, previous = [], None
    for word in enc.word_ids(0):
        labels.append(-100 if word is None or word == previous else tags[word])
        previous = word
    return {"words": words, "tags": tags, "length": length, "ids": enc["input_ids"][0], "labels": labels}

def chat(tok, template, messages):
    text = tok.apply_chat_template(messages, chat_template=template, tokenize=False)
    out = tok.apply_chat_template(messages, chat_template=template, tokenize=True, return_dict=True,
                                  return_assistant_tokens_mask=template is MARKED)
    ids = out["input_ids"]
    if template is MARKED:
        mask = out["assistant_masks"]
    else:  # by hand: tokens that begin inside what a turn adds to the prompt for it
        spans = []
        for i, m in enumerate(messages):
            if m["role"] == "assistant":
                a = tok.apply_chat_template(messages[:i], chat_template=template, tokenize=False, add_generation_prompt=True)
                b = tok.apply_chat_template(messages[:i + 1], chat_template=template, tokenize=False)
                spans.append((len(a), len(b)))
        offsets = tok(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        mask = [int(any(s <= start < e for s, e in spans)) for start, _ in offsets]
    return {"messages": messages, "marked": template is MARKED, "text": text, "ids": list(ids), "mask": list(mask)}

wp, bl = wordpiece(), bytelevel()
for name, tok in (("wordpiece", wp), ("bytelevel", bl)):
    folder = os.path.join(HERE, name)
    tok.save_pretrained(folder)
    for extra in ("special_tokens_map.json", "chat_template.jinja"):
        if os.path.exists(os.path.join(folder, extra)): os.remove(os.path.join(folder, extra))
pairs = []
for a, b in PAIRS:
    for length in (64, 12, 9, 6):
        enc = wp(a, b, truncation="longest_first", max_length=length, return_token_type_ids=True)
        pairs.append({"text": a, "pair": b, "length": length, "ids": enc["input_ids"], "segments": enc["token_type_ids"]})
spaced = PreTrainedTokenizerFast.from_pretrained(os.path.join(HERE, "bytelevel"))
spaced.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
golden = {
    "templates": {"plain": PLAIN, "marked": MARKED},
    "pairs": pairs,
    "wordpiece": [align(wp, w, t, n) for w, t in WORDS for n in (64, 8, 5)],
    "bytelevel": [align(spaced, w, t, n) for w, t in WORDS for n in (64, 8, 5)],
    "chats": [chat(bl, t, m) for t in (PLAIN, MARKED) for m in CHATS],
}
with open(os.path.join(HERE, "transformers.json"), "w") as f:
    json.dump(golden, f, indent=1, ensure_ascii=False)

def tensors():
    """Rows [[1.5, -2], [0.25, 3]] and [[1, 2], [7, -100]] as numpy and safetensors write them."""
    import numpy as np, torch
    from safetensors.torch import save_file
    folder = os.path.join(HERE, "tensors"); os.makedirs(folder, exist_ok=True)
    floats, ints = [[1.5, -2], [0.25, 3]], [[1, 2], [7, -100]]
    for kind in ("f2", "f4", "f8", "c8"): np.save(os.path.join(folder, kind + ".npy"), np.array(floats, dtype="<" + kind))
    for kind in ("i1", "i2", "i4", "i8"): np.save(os.path.join(folder, kind + ".npy"), np.array(ints, dtype="<" + kind))
    np.save(os.path.join(folder, "f4-fortran.npy"), np.asfortranarray(np.array(floats, dtype="<f4")))
    np.save(os.path.join(folder, "u1-big-endian.npy"), np.array(ints, dtype=">i4"))
    save_file({"f16": torch.tensor(floats, dtype=torch.float16), "bf16": torch.tensor(floats, dtype=torch.bfloat16),
               "f32": torch.tensor(floats), "i32": torch.tensor(ints, dtype=torch.int32), "i64": torch.tensor(ints)},
              os.path.join(folder, "all.safetensors"))

tensors()
