"""Tokens drawn from a sample of images: how many, which, and with which codes."""

import numpy as np
import pytest
import torch

from infoscope.analyses.removal.sample import SampleReader
from infoscope.dictionaries.parts import Codes

PER_IMAGE, WIDTH, FEATURES = 20, 3, 7


def drawn_codes(images, seed=0):
    """Tokens and codes of some images, and the codes as a dense array."""
    random = np.random.default_rng(seed)
    dense = random.random((images * PER_IMAGE, FEATURES)) * (random.random((images * PER_IMAGE, FEATURES)) < 0.4)
    start = np.concatenate([[0], np.cumsum((dense > 0).sum(1))])
    codes = Codes(
        torch.from_numpy(start),
        torch.from_numpy(np.nonzero(dense)[1].astype(np.int32)),
        torch.from_numpy(dense[dense > 0].astype(np.float32)),
    )
    tokens = torch.from_numpy(random.standard_normal((images, PER_IMAGE, WIDTH)).astype(np.float32))
    return tokens, codes, dense


def part(codes, first, last):
    """The codes of some tokens."""
    start = codes.start[first : last + 1]
    return Codes(start - start[0], codes.feature[start[0] : start[-1]], codes.value[start[0] : start[-1]])


@pytest.mark.parametrize("wanted", [7, 30, 95, 100, 1000])
def test_tokens_come_with_their_codes(wanted):
    tokens, codes, dense = drawn_codes(5)
    reader = SampleReader(5, wanted)
    reader.add(tokens, codes, [0, 1, 2, 3, 4], list("abcde"))
    sample = reader.sample()
    assert len(sample) == min(wanted, 5 * PER_IMAGE)
    counts = [sample.image_id.count(name) for name in "abcde"]
    assert max(counts) - min(counts) <= 1
    image = np.array(["abcde".index(name) for name in sample.image_id])
    np.testing.assert_array_equal(sample.tokens, tokens.numpy()[image, sample.position])
    found = np.zeros((len(sample), FEATURES))
    found[np.repeat(np.arange(len(sample)), np.diff(sample.start)), sample.feature] = sample.value
    np.testing.assert_allclose(found, dense[image * PER_IMAGE + sample.position], rtol=1e-6)
    assert len(set(zip(sample.image_id, sample.position.tolist(), strict=True))) == len(sample)


def test_neither_batches_nor_unreadable_images_change_what_is_drawn_from_the_others():
    tokens, codes, _ = drawn_codes(4)
    together, apart, without = (SampleReader(4, 30) for _ in range(3))
    together.add(tokens, codes, [0, 1, 2, 3], list("abcd"))
    for place in range(4):
        own = part(codes, place * PER_IMAGE, (place + 1) * PER_IMAGE)
        apart.add(tokens[place : place + 1], own, [place], ["abcd"[place]])
        if place != 1:
            without.add(tokens[place : place + 1], own, [place], ["abcd"[place]])
    first, second, third = together.sample(), apart.sample(), without.sample()
    for name in ("tokens", "start", "feature", "value", "position"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    readable = np.array([name != "b" for name in first.image_id])
    np.testing.assert_array_equal(first.tokens[readable], third.tokens)
    np.testing.assert_array_equal(first.position[readable], third.position)


def test_tokens_of_an_image_are_not_at_regular_steps():
    reader = SampleReader(1, PER_IMAGE // 4)
    tokens, codes, _ = drawn_codes(1)
    reader.add(tokens, codes, [0], ["a"])
    assert len(set(np.diff(reader.sample().position))) > 1
