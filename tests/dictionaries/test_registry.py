import re

import pytest

from infoscope.dictionaries.registry import KNOWN, known_sae, resolve
from infoscope.errors import InfoscopeError
from infoscope.runtime.hub import is_hub_id


def test_names_are_unique_and_typed_easily():
    names = [entry.name for entry in KNOWN]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: entry.name)
def test_an_entry_is_well_formed(entry):
    for hub_id in (entry.hub_id, entry.model):
        assert hub_id is None or is_hub_id(hub_id)
    assert entry.block is None or 0 <= entry.block < 48
    assert entry.features is None or entry.features > 0
    assert entry.tokens in ("patch", "all", "cls", "pooled", None)
    assert entry.activation is None or re.match(r"(relu|topk(\(\d+\))?)", entry.activation)
    assert entry.source
    assert (entry.why == "") == (entry.patch_maps == "yes")
    assert entry.folder is None or re.fullmatch(r"[\w-]+(/[\w-]+)*", entry.folder)


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: entry.name)
def test_what_was_not_trained_on_patches_is_never_a_plain_yes(entry):
    expected = {"cls": "doubtful", "pooled": "no"}
    assert entry.patch_maps == expected.get(entry.tokens, "no" if "mlp" in entry.name else "yes")


def test_a_repository_of_one_sae_says_what_its_name_says():
    for entry in KNOWN:
        if entry.hub_id and (found := re.search(r"layer[-_](\d+)|all_patches_(\d+)", entry.hub_id)):
            assert entry.block == int(found[1] or found[2])
        if entry.hub_id and (found := re.search(r"(?i)clip[-_].*b[-_](16|32)", entry.hub_id)):
            assert entry.model.lower().endswith(f"patch{found[1]}") or f"b-{found[1]}" in entry.model.lower()


def test_a_name_and_a_hub_id_find_the_same_entry():
    hub_id, entry = resolve("saev-clip-b16")
    assert (hub_id, entry.block) == ("osunlp/SAE_CLIP_24K_ViT-B-16_IN1K", 10)
    assert resolve(hub_id) == (hub_id, entry)


def test_a_hub_id_of_several_saes_stands_for_none_of_them():
    assert resolve("lewington/CLIP-ViT-L-scope") == ("lewington/CLIP-ViT-L-scope", None)
    assert resolve("lewington/CLIP-ViT-L-scope/8_resid")[1].block == 8
    places = [entry.hub_path for entry in KNOWN if entry.hub_path]
    assert len(set(places)) == len(places)


def test_a_path_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saev-clip-b16").mkdir()
    assert resolve("saev-clip-b16") == ("saev-clip-b16", None)


def test_unknown_names_pass_and_near_ones_get_a_hint():
    assert resolve("no/such/directory") == ("no/such/directory", None)
    assert resolve("somewhere") == ("somewhere", None)
    with pytest.raises(InfoscopeError, match=r"no such SAE: saev-clip-b61; did you mean saev-clip-b16\?"):
        resolve("saev-clip-b61")
    with pytest.raises(InfoscopeError, match="no known SAE is called zzz"):
        known_sae("zzz")


def test_what_has_no_patch_maps_or_no_place_is_refused():
    with pytest.raises(InfoscopeError, match="msae gives no maps over patches: it was trained on pooled embeddings"):
        resolve("msae")
    with pytest.raises(InfoscopeError, match="reads what the block's MLP adds"):
        resolve("prisma-clip-b32-9-mlp")
    with pytest.raises(InfoscopeError, match="download it and name its directory"):
        resolve("patchsae-clip-b16")


def test_an_entry_completes_a_site_and_never_overrules_its_block():
    entry = known_sae("clip-scope-8")
    assert entry.complete(None) == {
        "block": 8,
        "tokens": "all",
        "model": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    }
    own = {"model": "open-clip:x", "block": 8, "tokens": "patch", "mean_token_norm": 3.0, "revision": None}
    assert entry.complete(own) == {
        "block": 8,
        "tokens": "patch",
        "model": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "mean_token_norm": 3.0,
    }
    with pytest.raises(
        InfoscopeError, match="is of block 8, and what lewington/CLIP-ViT-L-scope/8_resid gave is of block 22"
    ):
        entry.complete({"block": 22})
