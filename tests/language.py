"""Small random models of every family with a text tower, with real tokenizer files, as the hub lays them out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn

SIDE, PATCH, WIDTH, LENGTH, PROJECTED = 32, 8, 24, 24, 20
WORDS = ("this", "is", "a", "photo", "of", "dog", "cat", "red", "garbage", "truck")

SIZES = {"hidden_size": WIDTH, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}
TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Every weight away from its initial value, so that none may be lost without being noticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator) * 0.3
            weight.copy_(noise + 1 if "norm" in name and name.endswith("weight") else noise)
            if name == "logit_scale":
                weight.fill_(2.5)
            if name == "logit_bias":
                weight.fill_(-1.5)
    return model.eval()


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-pair vocabulary that makes some of the words one token and spells the others."""
    letters = sorted({letter for word in WORDS for letter in word} | {"."})
    merges = []
    for word in ("photo", "of", "dog", "cat"):
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
    entries = letters + [letter + "</w>" for letter in letters] + [left + right for left, right in merges]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    return {entry: number for number, entry in enumerate(entries)}, merges


def save_clip_tokenizer(folder: Path, legacy: bool = False) -> None:
    """As ``tokenizer.json``; or, legacy, as ``vocab.json`` and ``merges.txt``."""
    vocabulary, merges = clip_vocabulary()
    if not legacy:
        transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH).save_pretrained(folder)
        return
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH})
    )


def save_siglip_tokenizer(folder: Path) -> None:
    """A unigram tokenizer with the rules of SigLIP's: lower case, no punctuation, an end token, padded with one."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -100.0)]
    pieces += [("▁" + word, -2.0) for word in WORDS] + [("▁", -3.0)]
    pieces += [(letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), ""), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "SiglipTokenizer",
                "model_max_length": LENGTH,
                "eos_token": "</s>",
                "pad_token": "</s>",
                "unk_token": "<unk>",
                "padding_side": "right",
                # On purpose: the models of this family were never given a mask.
                "model_input_names": ["input_ids", "attention_mask"],
            }
        )
    )


def save_gemma_tokenizer(folder: Path) -> None:
    """Byte-pair encoding with the rules of Gemma's, which SigLIP 2 has: an end token, no lower-casing in the file."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    entries = specials + [f"<0x{byte:02X}>" for byte in range(256)] + [*map(chr, range(97, 123)), "▁", "."]
    merges = []
    for word in WORDS:
        for end in range(1, len(word)):
            if (word[:end], word[end]) not in merges:
                merges.append((word[:end], word[end]))
    entries += list(dict.fromkeys(left + right for left, right in merges))
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.add_special_tokens([AddedToken(special, normalized=False, special=True) for special in specials])
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {name + "_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    config = {"tokenizer_class": "GemmaTokenizer", "model_max_length": LENGTH, "padding_side": "right"}
    config |= {"add_bos_token": False, "add_eos_token": True, "model_input_names": ["input_ids"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | named))


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk and the whole model it was written from."""

    folder: Path
    model: Any
    kind: str

    def texts(self, prompts: list[str]) -> torch.Tensor:
        """Text features by transformers alone."""
        with torch.no_grad():
            return self.model.get_text_features(**self.tokens(prompts)).pooler_output

    def tokens(self, prompts: list[str]) -> dict[str, torch.Tensor]:
        """As the documentation of transformers feeds each family."""
        if self.kind == "clip":
            tokenizer = transformers.CLIPTokenizer.from_pretrained(self.folder)
            return dict(tokenizer(prompts, padding=True, return_tensors="pt"))
        if self.kind == "siglip2":
            tokenizer = transformers.Siglip2Tokenizer.from_pretrained(self.folder)
        else:
            tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(self.folder)
        if self.kind == "siglip-gemma":  # transformers does not lower-case here what the model had in lower case
            prompts = [prompt.lower() for prompt in prompts]
        found = tokenizer(prompts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
        return {"input_ids": found["input_ids"]}

    def pixels(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the model's forward takes of normalised images."""
        if self.kind != "siglip2":
            return {"pixel_values": images}
        p = SIDE // PATCH
        patches = images.view(len(images), 3, p, PATCH, p, PATCH).permute(0, 2, 4, 3, 5, 1)
        return {
            "pixel_values": patches.reshape(len(images), p * p, -1),
            "pixel_attention_mask": torch.ones(len(images), p * p, dtype=torch.long),
            "spatial_shapes": torch.tensor([[p, p]] * len(images)),
        }


def build(kind: str) -> nn.Module:
    """A whole model of a family; ``siglip-gemma`` is a SigLIP 2 of one resolution, which is laid out as SigLIP."""
    if kind == "clip":
        vocabulary, _ = clip_vocabulary()
        end = len(vocabulary) - 1
        text = TEXT | {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
        text |= {"vocab_size": len(vocabulary), "max_position_embeddings": LENGTH}
        vision = SIZES | {"image_size": SIDE, "patch_size": PATCH}
        return transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTED)
        )
    text = TEXT | {"vocab_size": 400, "max_position_embeddings": LENGTH, "projection_size": WIDTH}
    text |= {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1}
    if kind in ("siglip", "siglip-gemma"):
        vision = SIZES | {"image_size": SIDE, "patch_size": PATCH}
        return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
    vision = SIZES | {"num_patches": (SIDE // PATCH) ** 2, "patch_size": PATCH}
    return transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision))


def save(kind: str, folder: Path, seed: int = 0) -> Saved:
    transformers.utils.logging.disable_progress_bar()
    model = randomise(build(kind), seed)
    model.save_pretrained(folder)
    {"clip": save_clip_tokenizer, "siglip": save_siglip_tokenizer}.get(kind, save_gemma_tokenizer)(folder)
    return Saved(folder, model, kind)
