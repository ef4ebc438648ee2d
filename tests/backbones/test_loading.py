from __future__ import annotations

import json
import shutil
from logging import Handler, LogRecord

import pytest
import torch
import transformers

from infoscope.backbones.loading import load_backbone
from infoscope.errors import InfoscopeError


def edit_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_weights_are_those_of_the_file(checkpoint):
    backbone = load_backbone(checkpoint.directory, 0, device="cpu")
    expected = dict(checkpoint.vision.named_parameters())
    unused = {"mask_token"}
    for name, weight in backbone.model.named_parameters():
        assert name.split(".")[-1] in unused or torch.equal(weight, expected[name]), name
        assert not weight.requires_grad
    assert not backbone.model.training


@pytest.mark.parametrize("kind", ["clip-vision", "siglip-vision", "siglip2-naflex-vision"])
def test_vision_weights_under_their_former_names(saved, pixels, tmp_path, edit_weights, kind):
    # Vision models saved by earlier versions of transformers, as on the hub, have a prefix before every name.
    original = saved(kind).directory
    directory = tmp_path / "former"
    shutil.copytree(original, directory)

    def rename(weights):
        for name in list(weights):
            weights[f"vision_model.{name}"] = weights.pop(name)

    edit_weights(directory, rename)
    images = pixels(2, 40)
    tokens = load_backbone(directory, -1, device="cpu").tokens(images)
    assert torch.equal(tokens, load_backbone(original, -1, device="cpu").tokens(images))


def test_an_mae_encoder_masks_nothing_and_is_not_random(saved, pixels):
    directory, images = saved("mae-pretraining").directory, pixels(2, 40)
    first = load_backbone(directory, -1, device="cpu")
    assert type(first.model).__name__ == "ViTModel"
    tokens = first.tokens(images)
    assert tokens.shape[1] == 25
    assert torch.equal(tokens, first.tokens(images))
    assert torch.equal(tokens, load_backbone(directory, -1, device="cpu").tokens(images))


def test_mean_and_std_of_the_models_own_file(vit_directory):
    assert load_backbone(vit_directory, 0, device="cpu").mean == (0.5, 0.5, 0.5)
    values = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (vit_directory / "preprocessor_config.json").write_text(json.dumps(values))
    backbone = load_backbone(vit_directory, 0, device="cpu")
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_the_hash_is_of_the_weights(vit_directory, edit_weights):
    before = load_backbone(vit_directory, 0, device="cpu").sha256
    assert before == load_backbone(vit_directory, 1, device="cpu").sha256
    edit_weights(vit_directory, lambda weights: weights["embeddings.cls_token"].add_(1))
    assert load_backbone(vit_directory, 0, device="cpu").sha256 != before


def test_float16_weights_are_run_in_float32(vit_directory, edit_weights, pixels):
    def halve(weights):
        for name in weights:
            weights[name] = weights[name].half()

    edit_weights(vit_directory, halve)
    backbone = load_backbone(vit_directory, 0, device="cpu")
    assert backbone.dtype == torch.float32
    assert backbone.tokens(pixels(1, 40)).isfinite().all()


def test_nothing_is_printed_and_transformers_speaks_as_before(saved, capfd):
    directories = [saved(kind).directory for kind in ("clip", "mae-pretraining", "vit-masked")]
    capfd.readouterr()
    logging = transformers.utils.logging
    usual = logging.get_verbosity()
    # Its own handler holds a stream from before this test, so what it would write is taken at the source.
    said: list[LogRecord] = []
    listener = Handler()
    listener.emit = said.append
    logging.add_handler(listener)
    logging.set_verbosity_info()
    try:
        for directory in directories:
            load_backbone(directory, 0, device="cpu")
        with pytest.raises(InfoscopeError):
            load_backbone(directories[0], 99, device="cpu")
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(usual)
        logging.remove_handler(listener)
    assert not said
    assert capfd.readouterr() == ("", "")


def test_a_list_of_equal_sides_is_one_side(vit_directory, pixels):
    expected = load_backbone(vit_directory, 1, device="cpu").tokens(pixels(1, 40))
    edit_config(vit_directory, image_size=[40, 40], patch_size=[8, 8])
    backbone = load_backbone(vit_directory, 1, device="cpu")
    assert (backbone.patch_size, backbone.grid) == (8, 5)
    assert torch.equal(backbone.tokens(pixels(1, 40)), expected)


def test_weights_only_used_after_the_blocks_may_be_missing(saved, tmp_path, edit_weights, pixels):
    directory = tmp_path / "clip"
    shutil.copytree(saved("clip").directory, directory)

    def drop(weights):
        for name in list(weights):
            if not name.startswith("vision_model.") or "post_layernorm" in name:
                del weights[name]

    edit_weights(directory, drop)
    images = pixels(2, 40)
    tokens = load_backbone(directory, -1, device="cpu").tokens(images)
    assert torch.equal(tokens, load_backbone(saved("clip").directory, -1, device="cpu").tokens(images))


@pytest.mark.parametrize(
    "lost", ["embeddings.position_embeddings", "embeddings.cls_token", "encoder.layer.1.output.dense.weight"]
)
def test_a_missing_weight_is_named(vit_directory, edit_weights, lost):
    edit_weights(vit_directory, lambda weights: weights.pop(lost))
    own_name = lost.replace("encoder.layer", "layers").replace("output.dense", "mlp.fc2")
    with pytest.raises(InfoscopeError, match=rf"do not fit its config\.json as a ViT model: {own_name} are missing"):
        load_backbone(vit_directory, 0, device="cpu")


def test_weights_of_another_model_are_refused_with_some_names(vit_directory, edit_weights):
    def rename(weights):
        for name in list(weights):
            weights[f"other.{name}"] = weights.pop(name)

    edit_weights(vit_directory, rename)
    with pytest.raises(InfoscopeError, match=r"embeddings\.cls_token, .* and \d+ more are missing"):
        load_backbone(vit_directory, 0, device="cpu")


def test_more_blocks_than_weights(vit_directory):
    edit_config(vit_directory, num_hidden_layers=4)
    with pytest.raises(InfoscopeError, match=r"layers\.3\..* are missing"):
        load_backbone(vit_directory, 0, device="cpu")


def test_weights_of_another_shape(vit_directory):
    edit_config(vit_directory, image_size=48)
    with pytest.raises(InfoscopeError, match=r"embeddings\.position_embeddings have another shape"):
        load_backbone(vit_directory, 0, device="cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(vit_directory, edit_weights, value):
    edit_weights(vit_directory, lambda weights: weights["embeddings.cls_token"][0, 0, :1].fill_(value))
    with pytest.raises(InfoscopeError, match=r"embeddings\.cls_token hold NaN or infinity as float32"):
        load_backbone(vit_directory, 0, device="cpu")


def test_weights_too_large_for_the_precision(vit_directory, edit_weights):
    edit_weights(vit_directory, lambda weights: weights["embeddings.cls_token"].fill_(1e6))
    with pytest.raises(InfoscopeError, match="hold NaN or infinity as float16"):
        load_backbone(vit_directory, 0, device="cpu", precision="fp16")


@pytest.mark.parametrize("block", [3, -4, 100])
def test_a_block_out_of_range(saved, block):
    with pytest.raises(InfoscopeError, match=rf"--block {block} is out of range: .* has 3 blocks, so choose 0 to 2"):
        load_backbone(saved("vit").directory, block, device="cpu")


@pytest.mark.parametrize(("side", "choice"), [(41, "40 or 48"), (47, "40 or 48"), (3, "8 or 16"), (-8, "8 or 16")])
def test_a_side_that_is_not_whole_patches(saved, side, choice):
    with pytest.raises(InfoscopeError, match=f"input side {side} is not a whole number .* choose {choice}"):
        load_backbone(saved("vit").directory, 0, input_side=side, device="cpu")


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "", "xpu"])
def test_a_device_that_is_not_there(saved, device):
    with pytest.raises(InfoscopeError, match=f"--device {device} is not there"):
        load_backbone(saved("vit").directory, 0, device=device)


def test_auto_is_the_gpu_where_there_is_one(saved):
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    assert load_backbone(saved("vit").directory, 0).device.type == kind


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_tokens_are_those_of_the_cpu(checkpoint, pixels):
    images = pixels(3, checkpoint.case.side)
    expected = load_backbone(checkpoint.directory, -1, device="cpu").tokens(images)
    backbone = load_backbone(checkpoint.directory, -1, device="cuda")
    assert backbone.tokens(images).device.type == "cuda"
    # TF32 would err by 1e-3.
    torch.testing.assert_close(backbone.tokens(images).cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_type", ["dinov3_convnext", "bert", "nonsense", "clip_text_model"])
def test_an_unsupported_type(vit_directory, model_type):
    edit_config(vit_directory, model_type=model_type)
    with pytest.raises(InfoscopeError, match=rf"vit: model type '{model_type}' is not supported; .*dinov2, "):
        load_backbone(vit_directory, 0, device="cpu")


def test_no_type(vit_directory):
    edit_config(vit_directory, model_type=None)
    with pytest.raises(InfoscopeError, match=r"config\.json names no model_type"):
        load_backbone(vit_directory, 0, device="cpu")


def test_a_quantised_model(vit_directory):
    edit_config(vit_directory, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    with pytest.raises(InfoscopeError, match="is quantised; name the model it was made from"):
        load_backbone(vit_directory, 0, device="cpu")


@pytest.mark.parametrize("changes", [{"hidden_size": "wide"}, {"num_hidden_layers": None}, {"patch_size": "a"}])
def test_a_configuration_of_wrong_values(vit_directory, changes):
    edit_config(vit_directory, **changes)
    with pytest.raises(InfoscopeError, match=r"config\.json does not describe a ViT model") as caught:
        load_backbone(vit_directory, 0, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{"num_attention_heads": 5}, {"num_attention_heads": 0}, {"hidden_act": "nonsense"}]
)
def test_a_configuration_no_model_can_be_built_from(vit_directory, changes):
    edit_config(vit_directory, **changes)
    with pytest.raises(InfoscopeError, match="vit: ") as caught:
        load_backbone(vit_directory, 0, device="cpu")
    assert "\n" not in str(caught.value)


def test_code_in_a_checkpoint_is_never_run(vit_directory, tmp_path):
    (vit_directory / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit_config(vit_directory, auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"})
    load_backbone(vit_directory, 0, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": [40, 80]}, r"has image_size \[40, 80\]; only square"),
        ({"patch_size": [8, 4]}, r"has patch_size \[8, 4\]; only square"),
        ({"num_channels": 4}, "takes 4 channels; only RGB"),
    ],
)
def test_geometry_that_has_no_square_grid_of_rgb(vit_directory, changes, message):
    edit_config(vit_directory, **changes)
    with pytest.raises(InfoscopeError, match=message):
        load_backbone(vit_directory, 0, device="cpu")


def test_precisions(saved):
    directory = saved("vit").directory
    backbone = load_backbone(directory, 0, device="cpu", precision="fp16")
    assert (backbone.precision, backbone.dtype) == ("fp16", torch.float16)
    with pytest.raises(
        InfoscopeError, match="tf32 is how a CUDA GPU multiplies; choose another of float32, bf16, fp16"
    ):
        load_backbone(directory, 0, device="cpu", precision="tf32")
