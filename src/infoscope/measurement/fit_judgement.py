"""What the numbers of a fit check say: warnings that name what is seen and its likely causes.

Kept apart from the check itself, so that whatever only reads a finished run needs no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infoscope.runtime.manifest import DictionaryRecord, FitRecord, ModelRecord

# Our choices, argued in docs/defaults.md with the figures of docs/fit-check.md: below the first an SAE fits, from the
# second on it does not fit.
FVU_FITS, FVU_LOOSE = 0.25, 0.5
# The FVU of the mean token, by definition.
FVU_OF_MEAN = 1.0
# The range of mean token norms, relative to the training tokens', that speaks for the same scale.
NORM_RATIOS = (1 / 1.5, 1.5)
# The largest share of features that a token may use where k does not limit it, and the least share of k where k does.
MOST_ACTIVE, LEAST_OF_K = 0.1, 0.5
# The largest share of dead features, where the sample has at least this many codes per feature.
MOST_DEAD, CODES_PER_FEATURE = 0.9, 10

Cause = Literal["checkpoint", "block", "normalisation", "cls", "images", "sae"]
Verdict = Literal["sure", "likely", "open", "excluded"]
# Parts of the names of hooks that are not a block's output.
_OTHER_HOOKS = ("mlp", "attn", "resid_pre", "resid_mid")
_RANK: dict[Verdict, int] = {"sure": 0, "likely": 1, "open": 2}


@dataclass(frozen=True)
class SiteComparison:
    """The site that an SAE was trained on, compared with the one that it is used at.

    Attributes:
        differences: one sentence for each difference.
        verdicts: what the sites say about each likely cause of a bad fit.
    """

    differences: list[str]
    verdicts: dict[Cause, Verdict]


def judge_fit(
    fit: FitRecord, site: Mapping[str, Any] | None, model: ModelRecord, dictionary: DictionaryRecord
) -> list[str]:
    """Warnings, one line each: first what contradicts the SAE's description, then what the numbers show.

    Likely causes are named with those that the SAE's description confirms first, and without those that it rules out.

    Args:
        fit: the numbers.
        site: the site that the SAE was trained on (``model``, ``sha256``, ``block``, ``input_side``, ``hook``,
            ``tokens``), as far as it is known.
        model: the model that the numbers are from.
        dictionary: the SAE.

    Returns:
        No warnings where nothing speaks against the SAE.

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
    compared = compare_site(site or {}, model)
    ratio = None if not fit.token_norm or not fit.trained_norm else fit.token_norm / fit.trained_norm
    verdicts = dict(compared.verdicts)
    if ratio is not None:
        verdicts["normalisation"] = "excluded" if NORM_RATIOS[0] <= ratio <= NORM_RATIOS[1] else "likely"
    l0 = fit.l0 if fit.sample_l0 is None else fit.sample_l0
    dead = fit.dead if fit.sample_dead is None else fit.sample_dead
    unlimited = not dictionary.activation.startswith("topk")
    crowded = unlimited and l0 > MOST_ACTIVE * dictionary.features
    if crowded and ratio is None:
        verdicts["normalisation"] = "likely"

    def causes(*candidates: Cause) -> str:
        return _causes(candidates, verdicts)

    lines = list(compared.differences)
    if fit.fvu is not None and fit.fvu >= FVU_OF_MEAN:
        # Measured: a wrong scale costs a TopK SAE little, since its codes scale with the tokens; thresholds do not.
        named = (
            causes("normalisation", "checkpoint", "block", "cls", "images", "sae")
            if unlimited
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
    if dead > MOST_DEAD and fit.sample * l0 >= CODES_PER_FEATURE * dictionary.features:
        lines.append(
            f"{dead:.0%} of the features are dead on a sample with {fit.sample * l0 / dictionary.features:.0f} codes "
            f"for each. {causes('checkpoint', 'block', 'normalisation', 'cls', 'images')}"
        )
    return lines


def compare_site(site: Mapping[str, Any], model: ModelRecord) -> SiteComparison:
    """Compare the site that an SAE was trained on with the model that it is used on.

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
            # Two checkpoints may have the same name, such as a fine-tuned copy and its original.
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
    # Where a hook is a block's output, under whatever name, the site names that block too.
    if isinstance(hook, str) and block is None and any(part in hook.lower() for part in _OTHER_HOOKS):
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
    return SiteComparison(lines, verdicts)


def same_model(first: str, second: str) -> bool:
    """Whether two names may be of one model; folders and library prefixes before the name do not count.

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
    """The candidates that are not ruled out, in words: the confirmed ones first, otherwise in the order given."""
    possible = [cause for cause in candidates if verdicts.get(cause, "open") != "excluded"]
    possible.sort(key=lambda cause: _RANK[verdicts.get(cause, "open")])
    if not possible:
        return "The SAE's description rules out the usual causes: another model, another block, another scale."
    named = "; ".join(_name(cause, verdicts.get(cause) == "sure") for cause in possible)
    return f"Likely cause: {named}." if len(possible) == 1 else f"Likely causes, the likeliest first: {named}."


def _name(cause: Cause, sure: bool) -> str:
    return {
        "checkpoint": "the other checkpoint" if sure else "another checkpoint of the model",
        "block": "the other block" if sure else "another block",
        "normalisation": "a missing normalisation or scale of the input",
        "cls": "training on CLS tokens only" if sure else "an SAE of CLS tokens only",
        "images": "images unlike those it was trained on",
        "sae": "an SAE that was trained badly or read wrongly",
    }[cause]
