"""Published SAEs by name, and what to know about each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infoscope.errors import InfoscopeError

PatchMaps = Literal["yes", "doubtful", "no"]


@dataclass(frozen=True, kw_only=True)
class KnownSAE:
    """A public SAE; None stands for what no source states.

    Attributes:
        name: what ``--sae`` takes.
        hub_id: its repository on the Hugging Face hub.
        folder: its folder in the repository, if that holds several SAEs.
        model: hub id of the model it was trained on.
        block: the block whose output it reads, 0-based.
        tokens: what it was trained on: ``patch``, ``all`` (CLS and patches), ``cls`` or ``pooled`` (one embedding per
            image).
        features: number of features.
        activation: activation function.
        format: the project that defines the file's layout.
        patch_maps: whether it gives activation maps over patches that can be believed.
        why: the reason where that is not a plain yes, else empty.
        notes: what to know about it.
        source: where all this is stated.
    """

    name: str
    hub_id: str | None = None
    model: str | None = None
    block: int | None = None
    tokens: str | None = None
    features: int | None = None
    activation: str | None = None
    format: str
    source: str
    notes: str = ""
    patch_maps: PatchMaps = "yes"
    why: str = ""
    folder: str | None = None

    @property
    def hub_path(self) -> str | None:
        """Where it is on the hub: ``owner/name``, or ``owner/name/folder``."""
        return f"{self.hub_id}/{self.folder}" if self.hub_id and self.folder else self.hub_id

    def complete(self, site: Mapping[str, Any] | None) -> dict[str, Any]:
        """An SAE's own site, filled in with what is known here.

        The model's name is always taken from here, because files name models as their own library does.

        Raises:
            InfoscopeError: the file is of another block, as can happen where a repository holds several SAEs.

        Example:
            >>> KNOWN[0].complete({"model": "ViT-B-16/openai", "hook": "blocks[10]"})
            {'block': 10, 'tokens': 'patch', 'model': 'openai/clip-vit-base-patch16', 'hook': 'blocks[10]'}
        """
        own = {key: value for key, value in (site or {}).items() if value is not None}
        if self.block is not None and own.get("block", self.block) != self.block:
            raise InfoscopeError(
                f"{self.name} is of block {self.block}, and what {self.hub_path} gave is of block {own['block']}: "
                "download the file and name it with --sae"
            )
        site = {"block": self.block, "tokens": self.tokens, **own, "model": self.model or own.get("model")}
        return {key: site[key] for key in ("block", "tokens", "model", *own) if site[key] is not None}


_FORMATS = "the sources of each project, read in November 2026, and docs/method.md"
_OPENAI_B16 = "openai/clip-vit-base-patch16"
_DATACOMP_B32 = "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K"
_PRISMA: dict[str, Any] = {"model": _DATACOMP_B32, "features": 49152, "format": "ViT-Prisma"}
_PRISMA_CLIP = "Trained on the DataComp CLIP of LAION, not on OpenAI's CLIP B/32."
_SEVERAL = (
    "The repository holds several SAEs, layer_<N>/<run>, at layers {layers}: name one and give --model and --block. "
    "Whether these layers count from 0 is not stated: check both."
)


def _prisma(layer: int, penalty: str, l0: int, variance: float) -> KnownSAE:
    repository = f"sparse-autoencoder-clip-b-32-sae-vanilla-x64-layer-{layer}-hook_resid_post-l1-{penalty}"
    return KnownSAE(
        **_PRISMA,
        name=f"prisma-clip-b32-{layer}",
        hub_id=f"Prisma-Multimodal/{repository}",
        block=layer,
        tokens="all",
        activation="relu",
        notes=f"{_PRISMA_CLIP} Its card states L0 {l0} and an explained variance of {variance} %.",
        source="the repository's model card",
    )


# The layers of CLIP-Scope's SAEs, and the explained variance of each.
_CLIP_SCOPE = {2: 0.763, 5: 0.665, 8: 0.642, 11: 0.674, 14: 0.689, 17: 0.731, 20: 0.706, 22: 0.684}


def _clip_scope(layer: int, variance: float) -> KnownSAE:
    return KnownSAE(
        name=f"clip-scope-{layer}",
        hub_id="lewington/CLIP-ViT-L-scope",
        model="laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        block=layer,
        tokens="all",
        features=65536,
        activation="topk(32), signed",
        format="CLIP-Scope",
        folder=f"{layer}_resid",
        notes=(
            f"One of eight SAEs in one repository. Its card states an explained variance of "
            f"{variance} and means the residual stream; the code hooks vision_model.encoder.layers[{layer}]."
        ),
        source="the repository's model card; the code of clipscope for the block",
    )


def _saev_dinov3(size: str, layers: str) -> KnownSAE:
    return KnownSAE(
        name=f"saev-dinov3-{size.lower()}16",
        hub_id=f"osunlp/SAE_DINOv3_ViT-{size}-16_IN1K",
        features=16384,
        activation="relu",
        format="saev",
        notes=f"Matryoshka. {_SEVERAL.format(layers=layers)}",
        source="the plan of their upload in the repository of saev, and the hub's collection osunlp/saev",
    )


# In the order in which `infoscope saes` lists them.
KNOWN: tuple[KnownSAE, ...] = (
    KnownSAE(
        name="saev-clip-b16",
        hub_id="osunlp/SAE_CLIP_24K_ViT-B-16_IN1K",
        model=_OPENAI_B16,
        block=10,
        tokens="patch",
        features=24576,
        activation="relu",
        format="saev",
        notes="saev calls the block layer 11. Files from before 31 July 2025 subtract b_dec before they encode.",
        source=f"{_FORMATS}; docs of saev",
    ),
    KnownSAE(
        name="patchsae-clip-b16",
        model=_OPENAI_B16,
        block=10,
        tokens="all",
        features=49152,
        activation="relu",
        format="PatchSAE",
        notes="A pickled out.pt. PatchSAE calls the block block_layer -2; no normalisation; b_dec is subtracted.",
        source=_FORMATS,
    ),
    KnownSAE(
        name="saev-dinov2-b14",
        hub_id="osunlp/SAE_DINOv2_24K_ViT-B-14_IN1K",
        model="facebook/dinov2-with-registers-base",
        block=10,
        tokens="patch",
        features=24576,
        activation="relu",
        format="saev",
        notes=(
            "Its card says DINOv2 ViT-B/14; programs that run it use the model with registers, block 10, and 256 patch "
            "tokens, centred on a mean and divided by 2.018 as in training, which the weights file does not hold. "
            "24,576 features are what the name (24K) and the file's size (151 MB) give."
        ),
        source="the repository's model card; public code that runs it for model, block and scale",
    ),
    *(_clip_scope(layer, variance) for layer, variance in _CLIP_SCOPE.items()),
    KnownSAE(
        **_PRISMA,
        name="prisma-clip-b32-2-topk",
        hub_id="Prisma-Multimodal/imagenet-sweep-vanilla-x64-all_patches_2-hook_resid_post-64.0-68",
        block=2,
        tokens="all",
        activation="topk(64)",
        notes=f"{_PRISMA_CLIP} Each token is layer-normed first.",
        source="the repository's config.json",
    ),
    _prisma(3, "0.0001", 293, 81.2),
    _prisma(8, "1e-05", 1587, 98.2),
    _prisma(11, "8e-05", 288, 79.3),
    KnownSAE(
        **_PRISMA,
        name="prisma-clip-b32-9-mlp",
        hub_id="Prisma-Multimodal/sparse-autoencoder-clip-b-32-sae-vanilla-x64-layer-9-hook_mlp_out-l1-0.0001",
        block=9,
        tokens="all",
        activation="relu",
        patch_maps="no",
        why="it reads what the block's MLP adds, not the block's output",
        notes=_PRISMA_CLIP,
        source="the repository's model card",
    ),
    KnownSAE(
        **_PRISMA,
        name="prisma-clip-b32-11-cls",
        hub_id="Prisma-Multimodal/sae-top_k-64-cls_only-layer_11-hook_resid_post",
        block=11,
        tokens="cls",
        activation="topk(64)",
        patch_maps="doubtful",
        why="it was trained on CLS tokens only, and patches are out of that distribution",
        notes=_PRISMA_CLIP,
        source="the repository's config.json",
    ),
    _saev_dinov3("S", "6 to 11"),
    _saev_dinov3("B", "6 to 11"),
    _saev_dinov3("L", "13, 15, 17, 19, 21, 23"),
    KnownSAE(
        name="sae-for-vlm",
        tokens="cls",
        format="dictionary_learning",
        patch_maps="doubtful",
        why="they were trained on CLS tokens only, and patches are out of that distribution",
        notes="SAEs of CLIP by Pach et al. 2025 (arXiv 2504.02821).",
        source=_FORMATS,
    ),
    KnownSAE(
        name="msae",
        tokens="pooled",
        format="MSAE",
        patch_maps="no",
        why="it was trained on pooled embeddings, one an image",
        notes="Matryoshka SAEs of CLIP by Zaigrajew et al. 2025; the configuration is in the file name.",
        source=_FORMATS,
    ),
    KnownSAE(
        name="clip-topk-sae",
        hub_id="lasgroup/clip-topk-sae",
        tokens="pooled",
        activation="topk",
        format="own",
        patch_maps="no",
        why="it was trained on CLIP's image embeddings of 512 numbers, one an image",
        source="the repository's model card",
    ),
)


_BY_NAME = {entry.name: entry for entry in KNOWN}


def resolve(name: str) -> tuple[str, KnownSAE | None]:
    """The path or hub id that ``--sae`` names, and what is known about it.

    A path that exists takes precedence over a name of the registry.

    Args:
        name: a path, a name of the registry, or a hub id.

    Raises:
        InfoscopeError: the SAE has no patch maps, it is not on the hub, or the name is close to one of the registry.

    Example:
        >>> path, known = resolve("saev-clip-b16")
        >>> path, known.block
        ('osunlp/SAE_CLIP_24K_ViT-B-16_IN1K', 10)
        >>> resolve("clip-scope-8")[0], resolve("some/other-sae")
        ('lewington/CLIP-ViT-L-scope/8_resid', ('some/other-sae', None))
    """
    if Path(name).expanduser().exists():
        return name, None
    # A hub id that the registry knows is as good as its name there.
    entry = _BY_NAME.get(name) or next((known for known in KNOWN if known.hub_path == name), None)
    if entry is None:
        # A name with a slash is taken for a hub id, which the hub itself can refuse.
        close = difflib.get_close_matches(name, _BY_NAME, n=1) if "/" not in name else []
        if close:
            raise InfoscopeError(f"no such SAE: {name}; did you mean {close[0]}? `infoscope saes` lists the known ones")
        return name, None
    if entry.patch_maps == "no":
        raise InfoscopeError(f"{name} gives no maps over patches: {entry.why}; `infoscope saes` lists SAEs that do")
    if entry.hub_path is None:
        raise InfoscopeError(f"where {name} is on the hub is not stated; download it and name its directory with --sae")
    return entry.hub_path, entry


def known_sae(name: str) -> KnownSAE:
    """The registry's entry for a name.

    Raises:
        InfoscopeError: there is none.

    Example:
        >>> known_sae("clip-scope-22").features
        65536
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    close = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"did you mean {close[0]}?" if close else "`infoscope saes` lists them"
    raise InfoscopeError(f"no known SAE is called {name}; {hint}")
