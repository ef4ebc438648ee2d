"""What the numbers of a fit check say: warnings that name what is seen and its likely causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infoscope.runtime.manifest import DictionaryRecord, FitRecord, ModelRecord

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
