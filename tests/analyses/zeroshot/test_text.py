"""Text towers against transformers' own text features, and what they refuse."""

import json
import shutil
from contextlib import suppress

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from infoscope.analyses.zeroshot.classes import Classes
from infoscope.analyses.zeroshot.text import embed_classes, load_text_tower
from infoscope.errors import InfoscopeError
from language import save_clip_tokenizer, save_siglip_tokenizer

PROMPTS = ["a photo of a dog.", "cat", "a photo of a red garbage truck"]
CLASSES = Classes(("dog", "Red Garbage Truck", "cat"))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_text_features_are_those_of_transformers(whole):
    tower = load_text_tower(whole.folder, device="cpu")
    torch.testing.assert_close(tower.embed(PROMPTS), whole.texts(PROMPTS), rtol=1e-4, atol=1e-5)
    # Prompts are distinct texts to the model, and case says nothing to it.
    assert not torch.allclose(tower.embed(PROMPTS)[0], tower.embed(PROMPTS)[1])
    torch.testing.assert_close(tower.embed(["A Photo of a DOG."]), tower.embed(["a photo of a dog."]))


def test_a_class_is_the_mean_of_its_prompts_at_length_one(whole):
    templates = ("a photo of a {}.", "this is {}", "{}")
    made = embed_classes(whole.folder, CLASSES, templates, device="cpu")
    for place, name in enumerate(("dog", "red garbage truck", "cat")):
        each = unit(whole.texts([template.format(name) for template in templates]).numpy())
        np.testing.assert_allclose(made.vectors[place], unit(each.mean(0)), rtol=1e-4, atol=1e-5)
    assert made.source["templates"] == list(templates)
    assert made.logits.scale == pytest.approx(np.exp(2.5))
    assert made.logits.bias == (None if whole.kind == "clip" else -1.5)


def test_the_default_template_is_the_familys(whole):
    made = embed_classes(whole.folder, CLASSES, device="cpu")
    expected = "a photo of a {}." if whole.kind == "clip" else "This is a photo of {}."
    assert made.source["templates"] == [expected]
    np.testing.assert_allclose(
        made.vectors[0], unit(whole.texts([expected.format("dog")]).numpy())[0], rtol=1e-4, atol=1e-5
    )


def test_many_prompts_come_in_batches(saved):
    names = tuple(f"{first} {second}" for first in ("dog", "cat", "red", "of") for second in "abcdefghijklmnopqrst")
    assert len(names) > 64
    made = embed_classes(saved("siglip").folder, Classes(names), ("{}",), device="cpu")
    np.testing.assert_allclose(made.vectors, unit(saved("siglip").texts(list(names)).numpy()), rtol=1e-4, atol=1e-5)


def test_a_cache_is_taken_only_for_the_same_question(saved, tmp_path, monkeypatch):
    whole, cache = saved("clip"), tmp_path / "classes.safetensors"
    options = {"cache": cache, "device": "cpu"}
    made = embed_classes(whole.folder, CLASSES, **options)
    calls = []
    original = transformers.CLIPTextModelWithProjection.forward

    def counted(self, *arguments, **others):
        calls.append(1)
        return original(self, *arguments, **others)

    monkeypatch.setattr(transformers.CLIPTextModelWithProjection, "forward", counted)
    again = embed_classes(whole.folder, CLASSES, **options)
    assert not calls
    np.testing.assert_array_equal(again.vectors, made.vectors)
    assert (again.classes.names, again.logits.scale) == (made.classes.names, pytest.approx(made.logits.scale))
    other = embed_classes(whole.folder, Classes(("cat", "dog")), **options)
    assert calls
    assert other.classes.names == ("cat", "dog")
    np.testing.assert_allclose(other.vectors[1], made.vectors[0], rtol=1e-4, atol=1e-5)
    calls.clear()
    embed_classes(whole.folder, Classes(("cat", "dog")), ("{}",), **options)
    assert calls


def test_older_tokenizer_files_say_the_same(saved, tmp_path):
    whole = saved("clip")
    shutil.copytree(whole.folder, tmp_path / "old")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "old" / name).unlink()
    save_clip_tokenizer(tmp_path / "old", legacy=True)
    torch.testing.assert_close(load_text_tower(tmp_path / "old", device="cpu").embed(PROMPTS), whole.texts(PROMPTS))


def test_a_text_model_alone_will_do(saved, tmp_path):
    clip = saved("clip")
    alone = transformers.CLIPTextModelWithProjection(clip.model.config.text_config)
    alone.config.projection_dim = alone.text_projection.out_features
    weights = {name: each for name, each in clip.model.state_dict().items() if name.startswith("text_model.")}
    weights["text_projection.weight"] = alone.text_projection.weight
    alone.load_state_dict(weights)
    alone.save_pretrained(tmp_path / "clip-text")
    save_clip_tokenizer(tmp_path / "clip-text")
    found = load_text_tower(tmp_path / "clip-text", device="cpu").embed(PROMPTS)
    with torch.no_grad():
        expected = alone.eval()(**clip.tokens(PROMPTS)).text_embeds
    torch.testing.assert_close(found, expected)
    siglip = saved("siglip")
    siglip.model.text_model.save_pretrained(tmp_path / "siglip-text")
    save_siglip_tokenizer(tmp_path / "siglip-text")
    found = load_text_tower(tmp_path / "siglip-text", device="cpu").embed(PROMPTS)
    torch.testing.assert_close(found, siglip.texts(PROMPTS), rtol=1e-4, atol=1e-5)


def test_a_prompt_that_does_not_fit_is_named(whole):
    tower = load_text_tower(whole.folder, device="cpu")
    with pytest.raises(InfoscopeError, match=r"takes 24 tokens, and 'a photo of (a photo of )+dog' has \d+: shorten"):
        tower.embed(["dog", "a photo of " * 9 + "dog"])


def spoiled(saved, tmp_path, change):
    shutil.copytree(saved("clip").folder, tmp_path / "spoiled")
    change(tmp_path / "spoiled")
    with pytest.raises(InfoscopeError) as caught:
        load_text_tower(tmp_path / "spoiled", device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_without_a_text_tower_is_refused(saved, tmp_path):
    transformers.CLIPVisionModelWithProjection(saved("clip").model.config.vision_config).save_pretrained(tmp_path)
    with pytest.raises(InfoscopeError, match=r"\(clip_vision_model\) has no text tower: name a whole CLIP"):
        load_text_tower(tmp_path, device="cpu")


def test_missing_tokenizer_files_are_named(saved, tmp_path):
    def remove(folder):
        for file in folder.glob("tokenizer*"):
            file.unlink()

    assert "has no tokenizer files" in spoiled(saved, tmp_path, remove)


def test_a_tokenizer_that_is_no_tokenizer_is_refused(saved, tmp_path):
    message = spoiled(saved, tmp_path, lambda folder: (folder / "tokenizer.json").write_text("{"))
    assert "cannot read the tokenizer of" in message


def test_weights_that_are_missing_are_named(saved, tmp_path):
    def drop(folder):
        file = folder / "model.safetensors"
        weights = load_file(file)
        del weights["text_projection.weight"]
        save_file(weights, file, {"format": "pt"})

    assert "text_projection.weight are missing" in spoiled(saved, tmp_path, drop)


def test_code_that_comes_with_a_model_is_not_run(saved, tmp_path):
    folder = tmp_path / "code"
    shutil.copytree(saved("clip").folder, folder)
    (folder / "evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import CLIPTokenizer as Evil\n"
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with suppress(InfoscopeError):
        load_text_tower(folder, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_siglip_without_sentencepiece_or_tokenizer_json_says_what_to_install(saved, tmp_path):
    try:
        import sentencepiece  # noqa: F401
    except ImportError:
        folder = tmp_path / "spm"
        shutil.copytree(saved("siglip").folder, folder)
        (folder / "tokenizer.json").unlink()
        (folder / "spiece.model").write_bytes(b"not read")
        with pytest.raises(InfoscopeError, match="install sentencepiece and protobuf"):
            load_text_tower(folder, device="cpu")
    else:
        pytest.skip("sentencepiece is installed")
