"""Files of class embeddings, written and read, and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from infoscope.analyses.zeroshot.classes import Classes
from infoscope.analyses.zeroshot.embeddings import LogitScale, class_embeddings, read_embeddings, write_embeddings
from infoscope.errors import InfoscopeError

VECTORS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
NAMED = Classes(("cat", "dog", "garbage truck"), ("n1", "n2", "n3"))
METADATA = {"names": json.dumps(NAMED.names)}


def test_what_is_written_is_read(tmp_path):
    made = class_embeddings(NAMED, VECTORS, LogitScale(30.0, -2.0), {"made": "here"})
    write_embeddings(tmp_path / "a.safetensors", made)
    read = read_embeddings(tmp_path / "a.safetensors")
    np.testing.assert_allclose(read.vectors, UNIT, rtol=1e-6)
    assert (read.classes.names, read.classes.folders) == (NAMED.names, NAMED.folders)
    assert (read.logits.scale, read.logits.bias, read.logits.source) == (30.0, -2.0, "class embeddings")
    assert read.source == {"made": "here", "file": str(tmp_path / "a.safetensors")}


def test_files_of_others_are_read(tmp_path):
    save_torch({"text": torch.from_numpy(VECTORS).to(torch.float64)}, tmp_path / "one.safetensors", METADATA)
    np.testing.assert_allclose(read_embeddings(tmp_path / "one.safetensors").vectors, UNIT, rtol=1e-6)
    save_torch({"embeddings": torch.from_numpy(VECTORS).to(torch.bfloat16)}, tmp_path / "half.safetensors", METADATA)
    np.testing.assert_allclose(read_embeddings(tmp_path / "half.safetensors").vectors, UNIT, atol=0.01)
    np.save(tmp_path / "a.npy", VECTORS.astype(np.float16))
    read = read_embeddings(tmp_path / "a.npy", NAMED)
    np.testing.assert_allclose(read.vectors, UNIT, atol=1e-3)
    assert read.classes.folders == NAMED.folders
    # Names in the file and a list of the same names: the file's folders stay.
    write_embeddings(tmp_path / "b.safetensors", class_embeddings(NAMED, VECTORS))
    assert read_embeddings(tmp_path / "b.safetensors", Classes(NAMED.names)).classes.folders == NAMED.folders


def test_very_long_and_very_short_vectors_keep_their_direction():
    scaled = class_embeddings(NAMED, VECTORS.astype(np.float64) * np.array([[1e200], [1e-200], [1.0]]))
    np.testing.assert_allclose(scaled.vectors, UNIT, rtol=1e-5)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (VECTORS[:2], "has 2 embeddings for the 3 classes"),
        (VECTORS[0], r"class embeddings are \[class, width\] of floats; these are \[5\] of float32"),
        (VECTORS.astype(np.int64), r"these are \[3, 5\] of int64"),
        (np.where(np.arange(3)[:, None] == 1, np.nan, VECTORS), "the one for dog is NaN or infinite"),
        (np.where(np.arange(3)[:, None] == 2, 0, VECTORS), "the one for garbage truck is all zero"),
    ],
)
def test_vectors_that_are_none_are_refused(tmp_path, vectors, message):
    np.save(tmp_path / "a.npy", vectors)
    with pytest.raises(InfoscopeError, match=message):
        read_embeddings(tmp_path / "a.npy", NAMED)


def test_files_that_are_none_are_refused(tmp_path):
    def refused(name, classes=None):
        with pytest.raises(InfoscopeError) as caught:
            read_embeddings(tmp_path / name, classes)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such file of class embeddings" in refused("none.npy")
    (tmp_path / "a.csv").write_text("1,2")
    assert "neither .safetensors nor .npy" in refused("a.csv")
    (tmp_path / "a.npy").write_bytes(b"nothing")
    assert "write it with numpy.save" in refused("a.npy", NAMED)
    np.save(tmp_path / "o.npy", np.array([{}, {}, {}], object), allow_pickle=True)
    assert "without objects" in refused("o.npy", NAMED)
    np.save(tmp_path / "b.npy", VECTORS)
    assert "names no classes; give their names, in its order, by --classes" in refused("b.npy")
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    assert "cut short or not a safetensors file" in refused("a.safetensors")
    save_file({"a": VECTORS, "b": VECTORS}, tmp_path / "two.safetensors", METADATA)
    assert "holds a, b; call the class embeddings 'embeddings'" in refused("two.safetensors")
    save_file({"a": VECTORS}, tmp_path / "n.safetensors", METADATA)
    other = Classes(("cat", "hound", "garbage truck"), source="names.txt")
    assert "names.txt and" in refused("n.safetensors", other)
    assert "name different classes ('hound' for 'dog')" in refused("n.safetensors", other)
    for metadata, message in (
        ({"names": "["}, "is not JSON"),
        ({"names": '{"a": 1}'}, "not a JSON list of strings"),
        (METADATA | {"folders": '["a"]'}, "has 3 names and 1 folders"),
        (METADATA | {"logits": "3"}, "has no scale and bias"),
        (METADATA | {"logits": '{"scale": 0, "bias": null}'}, "orders no classes"),
    ):
        save_file({"a": VECTORS}, tmp_path / "m.safetensors", metadata)
        assert message in refused("m.safetensors")


def test_another_bit_in_a_vector_or_a_name_is_named(tmp_path):
    file = tmp_path / "a.safetensors"
    write_embeddings(file, class_embeddings(NAMED, VECTORS))
    content = file.read_bytes()
    for place in (len(content) - 2, content.index(b"garbage")):
        damaged = bytearray(content)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(InfoscopeError, match="does not match its own checksum"):
            read_embeddings(file)
