"""A backbone with feature groups removed: every variant of a batch from one pass over what they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.backbones.running_on import Outputs, WholePass
from infoscope.backbones.token_sets import TokenSet, tokens_of
from infoscope.dictionaries.kinds import KINDS
from infoscope.dictionaries.parts import Codes, decode_part, encode_parts
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError, check_choice
from infoscope.measurement.fit import check_width
from infoscope.removal.statistics import CodeStatistics
from infoscope.removal.variant import Variant, check_variants


@dataclass(frozen=True)
class EditedBackbone:
    """A model at its SAE's block, and what is needed to remove features from it (method, section 7).

    Only the tokens that the SAE is of are edited: CLS and registers stay as they are unless it was trained on them.

    Attributes:
        backbone: the model at the SAE's block.
        sae: the dictionary, on the model's device.
        token_set: which tokens the SAE is of.
        statistics: codes over a sample of images; needed where codes are replaced by a mean or another image's.
        seed: of the choice of other images.

    Raises:
        InfoscopeError: model and SAE have different widths, or the SAE reads neurons.

    Example:
        >>> import tempfile
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> from infoscope.dictionaries.activations import TopK
        >>> from infoscope.groups.group import FeatureGroup
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
            raise InfoscopeError(f"{self.backbone.name} has no CLS token for the SAE {self.sae.name} to edit")

    @torch.no_grad()
    def run(
        self,
        pixels: UInt8[np.ndarray, "image row column 3"],
        ids: Sequence[str],
        variants: Sequence[Variant],
        blocks: Sequence[int] = (),
    ) -> Iterator[tuple[Variant, Outputs]]:
        """What each variant of the model makes of some images, one variant after the other.

        The model is run once, up to its block if no variant needs the rest, and its codes are taken once; each edited
        variant of the site ``rerun`` then runs the blocks after the edit, and one of ``site`` runs nothing.

        Args:
            pixels: as for `Backbone.tokens`.
            ids: the images' ids, by which other images are chosen to take codes from.
            variants: the variants.
            blocks: whose outputs are wanted of the site ``rerun``; negative counts from the end.

        Yields:
            A variant and its outputs. Of ``rerun`` they hold the blocks asked for, those before the edit as they
            are; of ``site`` the backbone's block alone, as the model's last.

        Raises:
            InfoscopeError: variants cannot be told apart, or one needs statistics and there are none.
        """
        check_variants(variants)
        for variant in variants:
            self._check(variant)
        backbone = self.backbone
        whole = WholePass(backbone, pixels, blocks) if any(variant.site == "rerun" for variant in variants) else None
        stream = backbone.all_tokens(pixels) if whole is None else whole.stream
        codes = None
        for variant in variants:
            edited = stream
            if variant.edited:
                codes = codes or self._encode(stream)
                edited = self._edit(stream, codes, ids, variant)
            if whole is None or variant.site == "site":
                yield variant, Outputs({backbone.block: edited}, edited, None)
            elif not variant.edited:
                yield variant, whole.outputs
            else:
                again = whole.run_on(edited)
                yield variant, Outputs({**whole.outputs.tokens, **again.tokens}, again.last, again.pooled)

    def _check(self, variant: Variant) -> None:
        kind = KINDS.get(self.sae.format)
        if variant.method == "reconstruct" and kind is not None and not kind.reconstructs:
            raise InfoscopeError(f"{variant.name}: {self.sae.format} reconstruct nothing; remove by keep-error")
        if variant.group is not None and len(variant.group.features):
            highest = int(variant.group.features.max())
            if highest >= self.sae.features:
                raise InfoscopeError(
                    f"{variant.name} removes feature {highest}, and the SAE {self.sae.name} has features "
                    f"0 to {self.sae.features - 1}"
                )
        if variant.replacement != "zero" and self.statistics is None:
            raise InfoscopeError(f"{variant.name}: a {variant.replacement} replacement needs a sample's codes")
        if variant.replacement == "resampled" and self.statistics is not None and len(self.statistics.donors) < 2:
            raise InfoscopeError(f"{variant.name}: to resample codes takes at least 2 other images")

    @property
    def _chosen(self) -> slice:
        return tokens_of(self.token_set, self.backbone.prefix_tokens)

    def _encode(self, stream: Float32[Tensor, "image token width"]) -> Codes:
        tokens = stream[:, self._chosen]
        return encode_parts(self.sae, tokens.flatten(0, 1), tokens.shape[1])

    def _edit(
        self, stream: Float32[Tensor, "image token width"], codes: Codes, ids: Sequence[str], variant: Variant
    ) -> Float32[Tensor, "image token width"]:
        """The stream with a variant's edit."""
        tokens = stream[:, self._chosen].flatten(0, 1)
        removed = self._members(variant)
        put_back = self._put_back(removed, stream, ids, variant)
        sae = self.sae
        if variant.method == "reconstruct":
            changed = decode_part(sae, codes, ~removed)
            if put_back is not None:
                changed = changed + put_back
            changed = changed + sae.b_dec
            if sae.token_norm is not None:
                changed = sae.token_norm.undo(changed, tokens)
        else:
            taken = decode_part(sae, codes, removed)
            if put_back is not None:
                taken = taken - put_back
            if sae.token_norm is not None:
                # Undoing a norm adds the token's own shift, which a difference does not have.
                _, scale = sae.token_norm.statistics(tokens)
                taken = taken * scale
            changed = tokens - taken
        edited = stream.clone()
        edited[:, self._chosen] = changed.view(len(stream), -1, stream.shape[2])
        return edited

    def _put_back(
        self, removed: Bool[Tensor, " feature"], stream: Tensor, ids: Sequence[str], variant: Variant
    ) -> Float32[Tensor, "_token width"] | None:
        """What the codes that take the place of the removed ones contribute; None where they are 0."""
        statistics = self.statistics
        if variant.replacement == "zero" or statistics is None:
            return None
        if variant.replacement == "mean":
            mean = torch.from_numpy(statistics.mean).to(self.sae.W_dec)
            return (torch.where(removed, mean, 0.0) @ self.sae.W_dec)[None]
        donor = torch.from_numpy(statistics.donors_of(ids, self.seed))
        tokens = statistics.donors[donor].to(stream.device)
        return decode_part(self.sae, encode_parts(self.sae, tokens.flatten(0, 1), tokens.shape[1]), removed)

    def _members(self, variant: Variant) -> Bool[Tensor, " feature"]:
        member = torch.zeros(self.sae.features, dtype=torch.bool, device=self.sae.W_dec.device)
        if variant.group is not None:
            member[torch.from_numpy(variant.group.features.astype(np.int64)).to(member.device)] = True
        return member
