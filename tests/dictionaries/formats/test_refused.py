import pytest
import torch

from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError

MSAE = {"encoder": torch.zeros(6, 14), "decoder": torch.zeros(14, 6), "pre_bias": torch.zeros(6)}
MSAE["latent_bias"] = torch.zeros(14)


@pytest.mark.parametrize("content", [MSAE, {"model": MSAE, "mean_center": True}])
def test_embeddings_of_whole_images(tmp_path, content):
    path = tmp_path / "14_6_TopKReLU_64_RW_False_False_0.0_cc3m_ViT-L~14_train_image.pth"
    torch.save(content, path)
    with pytest.raises(InfoscopeError, match="one embedding of a whole image, so it has no codes of patches"):
        load_sae(path)
