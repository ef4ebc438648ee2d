"""A backbone with feature groups removed: all variants of a batch, with what they share computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from infoscope.analyses.removal.statistics import CodeStatistics
from infoscope.analyses.removal.variants import Variant, check_variants
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import tokens_of
from infoscope.backbones.whole_pass import Outputs, WholePass
from infoscope.dictionaries.parts import Codes, decode_part, encode_parts
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.untrained import reconstructs
from infoscope.errors import InfoscopeError, check_choice
from infoscope.measurement.identity import check_width
from infoscope.options import TokenSet


@dataclass(frozen=True)
class EditedBackbone:
    """A model at its SAE's block, and what it takes to remove features from it (method, section 7).

    Only tokens of the SAE's token set are edited: CLS and register tokens stay as they are unless the SAE was trained
    on them.

    Attributes:
        backbone: the model at the SAE's block.
        sae: the dictionary; it is moved to the model's device.
        token_set: the tokens that the SAE was trained on.
        statistics: codes over a sample of images; needed where codes are replaced by their mean or by those of another
            image.
        seed: seed of the choice of other images.

    Raises:
        InfoscopeError: model and SAE have different widths, the SAE reads neurons, the SAE is for CLS tokens and the
            model has none, or the statistics are of another SAE or other tokens.

    Example:
        >>> import tempfile
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> from infoscope.dictionaries.activations import TopK
        >>> from infoscope.analyses.removal.groups import FeatureGroup
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        ...                    image_size=64, patch_size=16)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=1, device="cpu")
        >>> identity = torch.cat([torch.eye(32), -torch.eye(32)], dim=1)
        >>> sae = SparseAutoencoder(identity, torch.zeros(64), identity.T.contiguous(), torch.zeros(32), TopK(32))
        >>> edited = EditedBackbone(backbone, sae)
        >>> positive = FeatureGroup("positive", "list", np.arange(32, dtype=np.uint32))
        >>> variants = [Variant("untouched", site="site"), Variant("minus positive", positive, site="site")]
        >>> photographs = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
        >>> for variant, outputs in edited.run(photographs, ["a", "b"], variants):
        ...     print(variant.name, bool((outputs.tokens[1][:, 1:] > 1e-6).any()))
        untouched True
        minus positive False
    """

    backbone: Backbone
    sae: SparseAutoencoder
    token_set: TokenSet = "patch"
    statistics: CodeStatistics | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("token_set", self.token_set, TokenSet)
        check_width(self.backbone, self.sae)
        if self.backbone.reads != "output":
            raise InfoscopeError("neurons are not removed from the residual stream: give an SAE of a block's output")
        if self.token_set == "cls" and not self.backbone.layout.special_tokens:
            raise InfoscopeError(
                f"{self.backbone.name} has no CLS token for the SAE {self.sae.name} to edit"
                "; take an SAE of patch tokens, or a model that has one"
            )
        self.sae.to(self.backbone.device)
        if self.statistics is not None:
            self._check_statistics(self.statistics)

    def _check_statistics(self, statistics: CodeStatistics) -> None:
        tokens = len(range(*self._chosen.indices(self.backbone.prefix_tokens + self.backbone.grid**2)))
        given = len(statistics.mean), *statistics.donors.shape[1:]
        expected = self.sae.features, tokens, self.sae.width
        if given != expected:
            described = ("{} features and {} tokens of width {}".format(*shape) for shape in (given, expected))
            raise InfoscopeError("statistics of {} do not belong to {}: read them again".format(*described))

    @torch.no_grad()
    def run(
        self,
        pixels: UInt8[np.ndarray, "image row column 3"],
        ids: Sequence[str],
        variants: Sequence[Variant],
        blocks: Sequence[int] = (),
    ) -> Iterator[tuple[Variant, Outputs]]:
        """Run images through each variant of the model, one variant after the other.

        The model is run once, only up to its block if no variant needs the rest, and its tokens are encoded once. Each
        edited variant of the site ``rerun`` then runs the blocks after the edit; one of ``site`` runs nothing more.

        Args:
            pixels: as for `Backbone.tokens`.
            ids: the images' ids, by which the images that codes are taken from are chosen.
            variants: the variants.
            blocks: the blocks whose outputs are needed for the site ``rerun``; negative numbers count from the end.

        Yields:
            A variant and its outputs, which must not be changed, since variants share what does not differ. For
            ``rerun`` they hold the blocks asked for, unedited before the edit; for ``site`` they hold only the
            backbone's block, in place of the model's last.

        Raises:
            InfoscopeError: variants cannot be told apart, or one needs statistics and there are none.
        """
        check_variants(variants)
        for variant in variants:
            self._check(variant)
        whole_pass = None
        if any(variant.site == "rerun" for variant in variants):
            whole_pass = WholePass(self.backbone, pixels, blocks)
        edits = _Edits(self, self.backbone.all_tokens(pixels) if whole_pass is None else whole_pass.stream, ids)
        for variant in variants:
            if whole_pass is not None and variant.site == "rerun" and not variant.edited:
                yield variant, whole_pass.outputs
                continue
            edited = edits.stream_of(variant)
            if whole_pass is None or variant.site == "site":
                yield variant, Outputs({self.backbone.block: edited}, edited, None)
            else:
                rerun = whole_pass.run_from(edited)
                yield variant, Outputs({**whole_pass.outputs.tokens, **rerun.tokens}, rerun.last, rerun.pooled)

    def _check(self, variant: Variant) -> None:
        if variant.method == "reconstruct" and not reconstructs(self.sae.format):
            raise InfoscopeError(f"{variant.name}: {self.sae.format} reconstruct nothing; remove by keep-error")
        if variant.group is not None and len(variant.group.features):
            highest = int(variant.group.features.max())
            if highest >= self.sae.features:
                raise InfoscopeError(
                    f"{variant.name} removes feature {highest}, and the SAE {self.sae.name} has features "
                    f"0 to {self.sae.features - 1}"
                    "; give features in that range"
                )
        if variant.replacement != "zero" and self.statistics is None:
            raise InfoscopeError(
                f"{variant.name}: a {variant.replacement} replacement needs a sample's codes"
                "; pass statistics, as read_statistics gives them"
            )
        if variant.replacement == "resampled" and self.statistics is not None and len(self.statistics.donors) < 2:
            raise InfoscopeError(
                f"{variant.name}: resampling codes needs at least 2 images in the sample"
                "; raise --sample-images, or give more images"
            )

    @property
    def _chosen(self) -> slice:
        return tokens_of(self.token_set, self.backbone.prefix_tokens)


class _Edits:
    """The edits of one batch. What variants share is computed once, when the first of them needs it."""

    def __init__(self, of: EditedBackbone, stream: Float32[Tensor, "image token width"], ids: Sequence[str]):
        self._of, self._stream, self._ids = of, stream, ids
        self._tokens = stream[:, of._chosen].flatten(0, 1)

    def stream_of(self, variant: Variant) -> Float32[Tensor, "image token width"]:
        """All tokens, those in the SAE's token set as a variant edits them; the stream itself if nothing is edited."""
        if not variant.edited:
            return self._stream
        removed = self._members(variant)
        edit = self._decode_rest if variant.method == "reconstruct" else self._subtract
        changed = edit(removed, variant)
        edited = self._stream.clone()
        chosen = edited[:, self._of._chosen]
        chosen.copy_(changed.view(chosen.shape))
        return edited

    def _decode_rest(self, removed: Bool[Tensor, " feature"], variant: Variant) -> Float32[Tensor, "token width"]:
        """The decoded remaining codes."""
        sae = self._of.sae
        total = decode_part(sae, self._codes, ~removed) + sae.b_dec
        put_back = self._put_back(removed, variant)
        if put_back is not None:
            total = total + put_back
        return total if sae.token_norm is None else sae.token_norm.undo(total, self._tokens)

    def _subtract(self, removed: Bool[Tensor, " feature"], variant: Variant) -> Float32[Tensor, "token width"]:
        """The tokens minus what the group contributes."""
        sae = self._of.sae
        taken = decode_part(sae, self._codes, removed)
        put_back = self._put_back(removed, variant)
        if put_back is not None:
            taken = taken - put_back
        if sae.token_norm is not None:
            # Undoing a token norm multiplies by a scale and adds a shift; in a difference the shift cancels.
            _, scale = sae.token_norm.statistics(self._tokens)
            taken = taken * scale
        return self._tokens - taken

    def _put_back(self, removed: Bool[Tensor, " feature"], variant: Variant) -> Float32[Tensor, "_token width"] | None:
        """What the codes that replace the removed ones contribute; None where they are 0."""
        if variant.replacement == "zero":
            return None
        sae = self._of.sae
        if variant.replacement == "resampled":
            return decode_part(sae, self._donor_codes, removed)
        mean = torch.from_numpy(self._statistics.mean).to(sae.W_dec)
        return torch.where(removed, mean, 0.0)[None] @ sae.W_dec

    def _members(self, variant: Variant) -> Bool[Tensor, " feature"]:
        member = np.zeros(self._of.sae.features, np.bool_)
        if variant.group is not None:
            member[variant.group.features] = True
        return torch.from_numpy(member).to(self._stream.device)

    @property
    def _statistics(self) -> CodeStatistics:
        assert self._of.statistics is not None  # checked before the model is run
        return self._of.statistics

    @cached_property
    def _codes(self) -> Codes:
        return encode_parts(self._of.sae, self._tokens, len(self._tokens) // len(self._stream))

    @cached_property
    def _donor_codes(self) -> Codes:
        donor = torch.from_numpy(self._statistics.donors_of(self._ids, self._of.seed))
        tokens = self._statistics.donors[donor].to(self._stream.device)
        return encode_parts(self._of.sae, tokens.flatten(0, 1), tokens.shape[1])
