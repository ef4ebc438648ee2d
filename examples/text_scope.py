"""Information scope on a line of tokens: the codes of a language model's SAE under a shifted context window.

The score needs maps over places and a distance between places, and nothing of images. Here places are the tokens of a
window and the distance is |i - j|. Two windows of n tokens, s apart, share n - s tokens, as two crops share patches; a
code may follow the tokens (local), sit at a position of the window, or move with the context.

The model is a small GPT-2 with random weights, so nothing is downloaded, and it knows no language: what is shown is
that the score tells the kinds of features apart where their kind is known. Run it: ``python examples/text_scope.py``.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from transformers import GPT2Config, GPT2Model

from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.scope.maps import SparseMaps
from infoscope.scope.score import FeatureScores, score_features, score_maps
from infoscope.training.config import TrainConfig
from infoscope.training.loop import train_on_tokens

WORDS, WIDTH, LAYERS = 32, 64, 4
WINDOW, SHIFT, SEQUENCES, TOP = 24, 4, 400, 16


def random_gpt2(seed: int = 0) -> GPT2Model:
    """A GPT-2 of four layers whose attention and MLPs do a good deal to a token, as those of a trained one do."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=WORDS,
        n_positions=WINDOW,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=4,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
    )
    return GPT2Model(config).eval().requires_grad_(False)


def shifted_windows(
    text: Int64[np.ndarray, "sequence place"], shift: int
) -> tuple[Int64[np.ndarray, "sequence token"], Int64[np.ndarray, "sequence token"]]:
    """Both windows of each sequence; the second begins ``shift`` tokens later.

    They share tokens ``[shift:n]`` of the first, which are tokens ``[0:n - shift]`` of the second.
    """
    window = text.shape[1] - shift
    return text[:, :window], text[:, shift:]


def tokens_at(
    model: GPT2Model, windows: Int64[np.ndarray, "sequence token"], layer: int
) -> Float[Tensor, "sequence token width"]:
    """The residual stream before layer 0 (embeddings), or after layer ``layer``, before the final LayerNorm."""
    taken: list[Tensor] = []
    if layer == 0:
        hook = model.drop.register_forward_hook(lambda module, given, output: taken.append(output))
    else:
        hook = model.h[layer - 1].register_forward_hook(
            lambda module, given, output: taken.append(output[0] if isinstance(output, tuple) else output)
        )
    try:
        model(input_ids=torch.from_numpy(np.ascontiguousarray(windows)))
    finally:
        hook.remove()
    return taken[0]


def line_distances(places: int) -> Float64[np.ndarray, "place place"]:
    """|i - j|; the largest, D, is ``places - 1``."""
    at = np.arange(places, dtype=np.float64)
    distances: Float64[np.ndarray, "place place"] = np.abs(at[:, None] - at[None, :])
    return distances


def score_text(
    sae: SparseAutoencoder,
    first: Float[Tensor, "sequence token width"],
    second: Float[Tensor, "sequence token width"],
    shift: int,
    top: int = TOP,
) -> FeatureScores:
    """The Contextual Dependency Score of every feature over its strongest sequences.

    Args:
        sae: the dictionary.
        first: tokens of the first windows.
        second: tokens of the second ones.
        shift: how many tokens later they begin.
        top: how many sequences a score is the mean over; ranked by the larger of both windows' largest codes.
    """
    window = first.shape[1]
    codes = [sae.encode(tokens).numpy() for tokens in (first, second)]
    score = np.maximum(*(each.max(1) for each in codes))
    rank = np.argsort(-score, axis=0, kind="stable")[:top]
    # Pairs by feature, then rank; a sequence on which a feature never fires is none of its strongest.
    feature = np.repeat(np.arange(sae.features), len(rank))
    sequence = rank.T.ravel()
    fires = score[sequence, feature] > 0
    feature, sequence = feature[fires], sequence[fires]
    shared = (slice(shift, window), slice(0, window - shift))
    left, right = (
        SparseMaps.from_dense(np.ascontiguousarray(each[sequence, :, feature][:, where]))
        for each, where in zip(codes, shared, strict=True)
    )
    pairs = score_maps(left, right, line_distances(window - shift), score[sequence, feature])
    return score_features(pairs, feature.astype(np.uint32), sae.features, min_pairs=(top + 1) // 2)


def known_features(model: GPT2Model) -> tuple[SparseAutoencoder, dict[str, range]]:
    """A dictionary of the embeddings, whose features are known: one for each word, and one for each position.

    There are fewer than the width, so each has a dual direction that no other's embedding answers to: before layer 0 a
    feature's pre-activation is 1 on its own word or position and 0 elsewhere, less a half.
    """
    rows = torch.cat([model.wte.weight, model.wpe.weight])
    dual = torch.linalg.pinv(rows.double())
    sae = SparseAutoencoder(dual, torch.full((len(rows),), -0.5), rows, torch.zeros(WIDTH), ReLU(), name="known")
    return sae, {"word": range(WORDS), "position": range(WORDS, WORDS + WINDOW)}


def trained_sae(
    model: GPT2Model, windows: Int64[np.ndarray, "sequence token"], layer: int, tokens: int = 30_000
) -> SparseAutoencoder:
    """An SAE of what is at a layer, trained on so many tokens."""
    config = TrainConfig(features=128, k=8, tokens=tokens, batch_tokens=256, dead_after=5_000)
    return train_on_tokens([tokens_at(model, windows, layer).flatten(0, 1)], config).sae


def main() -> None:
    """Print the score of each kind of feature, and the spectra of SAEs at each layer."""
    model = random_gpt2()
    text = np.random.default_rng(0).integers(0, WORDS, (SEQUENCES, WINDOW + SHIFT))
    first, second = shifted_windows(text, SHIFT)
    glued = SHIFT / (WINDOW - SHIFT - 1)
    print(f"windows of {WINDOW} tokens, {SHIFT} apart; glued to a position: s/(n-s-1) = {glued:.3f}")
    sae, kinds = known_features(model)
    scores = score_text(sae, tokens_at(model, first, 0), tokens_at(model, second, 0), SHIFT)
    for kind, features in kinds.items():
        cds = scores.cds[list(features)]
        print(
            f"known {kind} features: {np.isfinite(cds).sum()} scored, CDS {np.nanmin(cds):.3f} to {np.nanmax(cds):.3f}"
        )
    for layer in range(LAYERS + 1):
        sae = trained_sae(model, first, layer)
        scores = score_text(sae, tokens_at(model, first, layer), tokens_at(model, second, layer), SHIFT)
        low, middle, high = np.nanquantile(scores.cds, [0.05, 0.5, 0.95])
        print(f"SAE after layer {layer}: median CDS {middle:.3f}, 5 to 95 % {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
