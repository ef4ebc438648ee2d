import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from infoscope.dictionaries.formats.pickles import Inert, load_torch, plain, state_dict_of
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def read(path):
    with path.open("rb") as file:
        return load_torch(file, path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("how", ["os.system", "eval", "exec", "nested"])
def test_a_hostile_pickle_runs_nothing(tmp_path, zipped, how):
    mark = tmp_path / "executed"
    call = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    hostile = {
        "os.system": Hostile(os.system, f"touch {mark}"),
        "eval": Hostile(eval, call),
        "exec": Hostile(exec, call),
        "nested": Hostile(getattr, Hostile(__import__, "os"), "system"),
    }[how]
    path = tmp_path / "sae.pt"
    torch.save({"state_dict": {"W_enc": torch.ones(2, 3)}, "cfg": hostile}, path, _use_new_zipfile_serialization=zipped)
    held = read(path)
    assert isinstance(held["cfg"], Inert)
    assert torch.equal(held["state_dict"]["W_enc"], torch.ones(2, 3))
    with pytest.raises(InfoscopeError):
        load_sae(path)
    assert not mark.exists()
    if how != "nested":  # the test is worth something: it does run where nothing is restricted
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_torch_s_own_unpickling_of_bytes_is_not_reached(tmp_path):
    mark = tmp_path / "executed"
    inner = io.BytesIO()
    torch.save(Hostile(os.system, f"touch {mark}"), inner)
    path = tmp_path / "sae.pt"
    torch.save({"x": Hostile(torch.storage._load_from_bytes, inner.getvalue())}, path)
    assert isinstance(read(path)["x"], Inert)
    assert not mark.exists()


def test_objects_of_packages_that_are_not_there_are_data(tmp_path, foreign):
    config = foreign("Config", k=32, dtype=torch.float32, device=torch.device("cpu"), path=Path("a/b"))
    config.inner = foreign("Inner", layers=(1, 2), table={"a": {3}})
    foreign.save({"cfg": config, "parameter": torch.nn.Parameter(torch.ones(2))}, tmp_path / "sae.pt")
    held = read(tmp_path / "sae.pt")
    assert held["cfg"].kind == "foreign_project.Config"
    assert plain(held)["cfg"] == {
        "k": 32,
        "dtype": "torch.float32",
        "device": "cpu",
        "path": ["a", "b"],
        "inner": {"layers": [1, 2], "table": {"a": [3]}},
    }
    assert torch.equal(plain(held)["parameter"], torch.ones(2))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickled_module_has_the_state_dict_of_the_real_one(tmp_path, protocol):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    torch.save(module, tmp_path / "module.pt", pickle_protocol=protocol)
    tensors = state_dict_of(read(tmp_path / "module.pt"))
    assert tensors.keys() == module.state_dict().keys()
    assert all(torch.equal(tensors[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.bool])
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_come_back_whole(tmp_path, dtype, zipped):
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    torch.save({"x": tensor, "view": tensor.T[1:]}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    held = read(tmp_path / "x.pt")
    assert torch.equal(held["x"], tensor)
    assert torch.equal(held["view"], tensor.T[1:])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_file_cut_short(tmp_path, zipped, share):
    path = tmp_path / "sae.pt"
    torch.save({"W_enc": torch.randn(40, 40)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InfoscopeError, match=r"sae\.pt is (cut short or )?not a torch file") as error:
        load_sae(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"PK\x03\x04nothing", b"\x80\x02nonsense", b"version https://git-lfs", b"\x80\x04."])
def test_a_file_of_something_else(tmp_path, data):
    (tmp_path / "sae.pt").write_bytes(data)
    with pytest.raises(InfoscopeError, match=r"sae\.pt is (cut short or )?not a torch file") as error:
        load_sae(tmp_path / "sae.pt")
    assert "\n" not in str(error.value)


def test_compiled_code_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "sae.pt", "w") as archive:
        archive.writestr("sae/data.pkl", pickle.dumps({}))
        archive.writestr("sae/constants.pkl", pickle.dumps(()))
    with pytest.raises(InfoscopeError, match="TorchScript"):
        load_sae(tmp_path / "sae.pt")


def test_data_that_contains_itself(tmp_path):
    content = {}
    content["self"] = content
    torch.save(content, tmp_path / "sae.pt")
    with pytest.raises(InfoscopeError, match="contains itself"):
        load_sae(tmp_path / "sae.pt")
