"""The fit check: does this SAE describe this model's tokens on these images, and if not, what is the likely cause?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.fvu import FitSums
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.untrained import KINDS, reconstructs
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import Images, open_images
from infoscope.images.spread import spread_evenly
from infoscope.images.views import Views
from infoscope.measurement.encode import encode_views
from infoscope.measurement.identity import check_width, dictionary_record, model_record
from infoscope.measurement.ranking import Ranked
from infoscope.runtime.choices import Resize
from infoscope.runtime.execution import Execution, run_here
from infoscope.runtime.manifest import DictionaryRecord, FitRecord, ModelRecord
from infoscope.runtime.progress import progress

# Our choice: 65,536 tokens of a 16 x 16 grid fix an FVU to the third digit, at well under 1 % of a pass's cost.
SAMPLE_IMAGES = 256
# Our choices, argued in docs/defaults.md with the figures of docs/fit-check.md: under the first an SAE fits, from the
# second on it does not.
FVU_FITS, FVU_LOOSE = 0.25, 0.5
# FVU of the mean token, by definition.
FVU_OF_MEAN = 1.0
# Norm of the tokens over the norm of those of the training.
NORM_RATIOS = (1 / 1.5, 1.5)
# Share of the features a token may use where nothing fixes how many, and share of k it must use where k does.
MOST_ACTIVE, LEAST_OF_K = 0.1, 0.5
# Share of dead features, where the sample has this many codes for each on average.
MOST_DEAD, CODES_A_FEATURE = 0.9, 10

Cause = Literal["checkpoint", "block", "normalisation", "cls", "images", "sae"]
Verdict = Literal["sure", "likely", "open", "excluded"]
# What the names of places other than a block's output have in them.
_NO_OUTPUT = ("mlp", "attn", "resid_pre", "resid_mid")
_RANK: dict[Verdict, int] = {"sure": 0, "likely": 1, "open": 2}


def fit_sample(count: int) -> frozenset[int]:
    """The images the fit check is made on: all, or `SAMPLE_IMAGES` spread evenly over the source.

    Example:
        >>> len(fit_sample(100)), len(fit_sample(3000)), max(fit_sample(3000))
        (100, 256, 2999)
    """
    return spread_evenly(count, SAMPLE_IMAGES)


def fit_record(ranked: Ranked, backbone: Backbone, sae: SparseAutoencoder) -> FitRecord:
    """The fit check of a ranking pass, judged; L0 and dead share are those of the whole pool as well."""
    _, tokens = ranked.ranking.seen
    active = ranked.ranking.tokens_active
    return _judged(ranked.fit, float(active.sum() / tokens), float((active == 0).mean()), backbone, sae)


@torch.no_grad()
def check_fit(
    backbone: Backbone,
    sae: SparseAutoencoder,
    images: Images,
    *,
    resize: Resize = "stretch",
    execution: Execution | None = None,
    **options: Any,
) -> FitRecord:
    """Check whether an SAE fits a model on a sample of images, in one pass over that sample and nothing else.

    Args:
        backbone: the model, at the block the SAE is meant to be of.
        sae: the dictionary.
        images: the images; at most 256 are read, spread evenly over them.
        resize: how an image becomes square.
        execution: how the pass runs; it changes memory and speed, not the result.
        **options: options of ``execution`` by name, such as ``batch_size=4``; they come before its own.

    Returns:
        The numbers, and in ``warnings`` what speaks against the SAE: an empty list where it fits.

    Raises:
        InfoscopeError: the SAE has another width than the model, or no image of the sample can be read.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=8)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> identity = torch.cat([torch.eye(32), -torch.eye(32)], dim=1)
        >>> sae = SparseAutoencoder(identity, torch.zeros(64), identity.T.contiguous(), torch.zeros(32), TopK(32))
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> fit = check_fit(backbone, sae, photographs)
        >>> round(fit.fvu, 6), fit.l0, fit.sample, fit.warnings    # it keeps each token whole
        (0.0, 32.0, 384, [])
    """
    execution = run_here(execution, options)
    images = open_images(images)
    check_width(backbone, sae)
    sae = sae.to(backbone.device)
    view = Views(backbone.patch_size, backbone.grid, 0, resize).full
    sample = sorted(fit_sample(len(images)))
    sums = FitSums.empty(backbone.width, sae.features)
    reason = ""
    with progress("Checking the fit", len(sample), "images") as advance:
        for batch in decode_ahead(images, sample, view, execution.batch_size or backbone.batch_size, execution.threads):
            reason = reason or next((why for _, why in batch.unreadable), "")
            if batch.index:
                tokens = backbone.tokens(batch.pixels).flatten(0, 1)
                codes = encode_views(sae, tokens, backbone.grid**2)
                whole = slice(0, len(tokens))
                sums.update(tokens, codes.reconstruct(whole), codes.active(whole))
            advance(len(batch.index) + len(batch.unreadable))
    if not sums.fvu.tokens:
        raise all_unreadable(images, reason)
    return _judged(sums, sums.l0, sums.dead, backbone, sae)


def _judged(sums: FitSums, l0: float, dead: float, backbone: Backbone, sae: SparseAutoencoder) -> FitRecord:
    site = sae.site or {}
    trained = site.get("mean_token_norm")
    seen = sums.fvu.tokens > 0
    kind = KINDS.get(sae.format)
    record = FitRecord(
        fvu=None if math.isnan(sums.fvu.value) or not reconstructs(sae.format) else sums.fvu.value,
        l0=l0,
        dead=dead,
        sample=sums.fvu.tokens,
        sample_l0=sums.l0 if seen else None,
        sample_dead=sums.dead if seen else None,
        k=sae.activation.k if isinstance(sae.activation, TopK) else None,
        token_norm=sums.mean_norm if seen else None,
        trained_norm=float(trained) if isinstance(trained, int | float) else None,
    )
    if kind:
        return replace(record, warnings=[], note=kind.note)
    return replace(record, warnings=judge_fit(record, site, model_record(backbone), dictionary_record(sae)))


@dataclass(frozen=True)
class Site:
    """What the SAE says of where its tokens came from, against where they come from now.

    Attributes:
        differences: each in one sentence.
        verdicts: of the causes that a site can settle.
    """

    differences: list[str]
    verdicts: dict[Cause, Verdict]


def judge_fit(
    fit: FitRecord, site: Mapping[str, Any] | None, model: ModelRecord, dictionary: DictionaryRecord
) -> list[str]:
    """Warnings, one line each: first what the SAE's own description contradicts, then what the numbers say.

    Likely causes are named in the order of what is known: those that the SAE's description settles first, those it
    rules out not at all.

    Args:
        fit: the numbers.
        site: where the SAE's tokens came from (``model``, ``sha256``, ``block``, ``input_side``, ``hook``,
            ``tokens``), each key if known.
        model: the model the numbers are of.
        dictionary: the SAE.

    Returns:
        No line where nothing speaks against the SAE.

    Example:
        >>> model = ModelRecord("openai/clip-vit-base-patch16", None, "ab" * 32, "CLIP", 9, 16, 14, 1)
        >>> sae = DictionaryRecord("my-sae", "infoscope", "cd" * 32, 4096, "topk(32)")
        >>> judge_fit(FitRecord(fvu=0.2, l0=32.0, dead=0.0, sample=50176), {"block": 9}, model, sae)
        []
        >>> for line in judge_fit(FitRecord(fvu=0.72, l0=32.0, dead=0.2, sample=50176), {"block": 10}, model, sae):
        ...     print(line)
        The SAE was trained on block 10, and these tokens are of block 9: give --block 10.
        FVU 0.72, more than half of the tokens' variance. Likely causes, the likeliest first: the other block; a missing
        normalisation or scale of the input; another checkpoint of the model; an SAE of CLS tokens only; images unlike
        those it was trained on; an SAE that was trained badly or read wrongly.
    """
    found = compare_site(site or {}, model)
    ratio = None if not fit.token_norm or not fit.trained_norm else fit.token_norm / fit.trained_norm
    verdicts = dict(found.verdicts)
    if ratio is not None:
        verdicts["normalisation"] = "excluded" if NORM_RATIOS[0] <= ratio <= NORM_RATIOS[1] else "likely"
    l0 = fit.l0 if fit.sample_l0 is None else fit.sample_l0
    dead = fit.dead if fit.sample_dead is None else fit.sample_dead
    thresholded = not dictionary.activation.startswith("topk")
    crowded = thresholded and l0 > MOST_ACTIVE * dictionary.features
    if crowded and ratio is None:
        verdicts["normalisation"] = "likely"

    def causes(*candidates: Cause) -> str:
        return _causes(candidates, verdicts)

    lines = list(found.differences)
    if fit.fvu is not None and fit.fvu >= FVU_OF_MEAN:
        # Measured: a wrong scale costs a TopK SAE little, since it scales its codes along; others count on it.
        named = (
            causes("normalisation", "checkpoint", "block", "cls", "images", "sae")
            if thresholded
            else causes("checkpoint", "block", "normalisation", "cls", "images", "sae")
        )
        lines.append(f"FVU {fit.fvu:.2f}, worse than the mean token, whose FVU is 1. {named}")
    elif fit.fvu is not None and fit.fvu >= FVU_LOOSE:
        named = causes("block", "normalisation", "checkpoint", "cls", "images", "sae")
        lines.append(f"FVU {fit.fvu:.2f}, more than half of the tokens' variance. {named}")
    if ratio is not None and not NORM_RATIOS[0] <= ratio <= NORM_RATIOS[1]:
        lines.append(
            f"The tokens' mean norm is {fit.token_norm:.1f}, {ratio:.2g} times the {fit.trained_norm:.1f} that the SAE "
            f"was trained on. {causes('normalisation', 'block', 'checkpoint')}"
        )
    if crowded:
        lines.append(
            f"L0 {l0:.0f}, {l0 / dictionary.features:.0%} of the features on every token: the codes are not sparse. "
            f"{causes('normalisation', 'checkpoint', 'block', 'cls', 'sae')}"
        )
    if fit.k is not None and l0 < LEAST_OF_K * fit.k:
        lines.append(
            f"L0 {l0:.1f}, less than half of k = {fit.k}: most pre-activations are below 0. "
            f"{causes('checkpoint', 'block', 'normalisation', 'cls', 'sae')}"
        )
    if dead > MOST_DEAD and fit.sample * l0 >= CODES_A_FEATURE * dictionary.features:
        lines.append(
            f"{dead:.0%} of the features are dead on a sample with {fit.sample * l0 / dictionary.features:.0f} codes "
            f"for each. {causes('checkpoint', 'block', 'normalisation', 'cls', 'images')}"
        )
    return lines


def compare_site(site: Mapping[str, Any], model: ModelRecord) -> Site:
    """Where an SAE's description contradicts the model it meets.

    Example:
        >>> model = ModelRecord("openai/clip-vit-base-patch16", None, "ab" * 32, "CLIP", 10, 16, 14, 1)
        >>> compare_site({"block": 10, "tokens": "cls"}, model).verdicts
        {'block': 'excluded', 'cls': 'sure'}
    """
    lines: list[str] = []
    verdicts: dict[Cause, Verdict] = {}
    digest, name = site.get("sha256"), site.get("model")
    if isinstance(digest, str):
        verdicts["checkpoint"] = "excluded" if digest == model.sha256 else "sure"
        if digest != model.sha256:
            lines.append(
                f"The SAE was trained on another checkpoint: weights {digest[:12]} ({name or 'not named'}), "
                f"here {model.sha256[:12]} ({model.name})."
            )
    elif isinstance(name, str):
        if same_model(name, model.name):
            # Two checkpoints may bear one name, a fine-tuned copy for instance.
            verdicts["checkpoint"] = "open"
        else:
            verdicts["checkpoint"] = "likely"
            lines.append(
                f"The SAE names the model {name}, and this is {model.name}: another checkpoint, unless the two are "
                "copies of one."
            )
    block = site.get("block")
    if isinstance(block, int):
        verdicts["block"] = "excluded" if block == model.block else "sure"
        if block != model.block:
            lines.append(
                f"The SAE was trained on block {block}, and these tokens are of block {model.block}: "
                f"give --block {block}."
            )
    hook = site.get("hook")
    # A hook that is some block's output comes with that block, under whichever name.
    if isinstance(hook, str) and block is None and any(part in hook.lower() for part in _NO_OUTPUT):
        verdicts["block"] = "sure"
        lines.append(f"The SAE was trained at {hook}, and these tokens are a block's output, the stream after it.")
    side, here = site.get("input_side"), model.grid * model.patch_size
    if isinstance(side, int) and side != here:
        lines.append(f"The SAE was trained at {side} pixels a side, and the input here has {here}.")
    tokens = site.get("tokens")
    if isinstance(tokens, str):
        only_cls = tokens.lower().replace("-", "_") in ("cls", "cls_only")
        verdicts["cls"] = "sure" if only_cls else "excluded"
        if only_cls:
            lines.append("The SAE was trained on CLS tokens only: patch tokens are outside what it was trained on.")
    return Site(lines, verdicts)


def same_model(first: str, second: str) -> bool:
    """Whether two names may be of one model: prefixes of other libraries and folders before the name do not count.

    Example:
        >>> same_model("open-clip:laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", "/m/CLIP-ViT-B-32-DataComp.XL-s13B-b90K/")
        True
        >>> same_model("openai/clip-vit-base-patch16", "openai/clip-vit-base-patch32")
        False
    """
    return _last_part(first) == _last_part(second)


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").split(":")[-1].split("/")[-1].lower()


def _causes(candidates: Sequence[Cause], verdicts: Mapping[Cause, Verdict]) -> str:
    """The candidates that are not ruled out: the settled ones first, else in the order given."""
    left = [cause for cause in candidates if verdicts.get(cause, "open") != "excluded"]
    left.sort(key=lambda cause: _RANK[verdicts.get(cause, "open")])
    if not left:
        return "The SAE's description rules out the usual causes: another model, another block, another scale."
    named = "; ".join(_name(cause, verdicts.get(cause) == "sure") for cause in left)
    return f"Likely cause: {named}." if len(left) == 1 else f"Likely causes, the likeliest first: {named}."


def _name(cause: Cause, sure: bool) -> str:
    return {
        "checkpoint": "the other checkpoint" if sure else "another checkpoint of the model",
        "block": "the other block" if sure else "another block",
        "normalisation": "a missing normalisation or scale of the input",
        "cls": "training on CLS tokens only" if sure else "an SAE of CLS tokens only",
        "images": "images unlike those it was trained on",
        "sae": "an SAE that was trained badly or read wrongly",
    }[cause]
