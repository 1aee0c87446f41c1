"""The names of devices, and what is said of one that is not there."""

import pytest
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import parse_config
from asrkit.device import check_device, choose_device, gpu_number
from asrkit.errors import ConfigError, MissingPackageError
from asrkit.training import ranks


@pytest.mark.parametrize(("name", "number"), [("cpu", None), ("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_names_of_devices(name, number):
    assert check_device(name) == name
    assert gpu_number(name) == number
    assert parse_config("", ExperimentConfig, "x", [f"training.device={name}"]).training.device == name


@pytest.mark.parametrize(
    "name", ["", "gpu", "CUDA", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:01", "cuda:٣", "cuda:100"]
)
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match=r"expected cpu, cuda, or cuda:N for GPU number N \(from 0\), found"):
        check_device(name)
    with pytest.raises(ConfigError, match="expected cpu, cuda, or cuda:N"):
        choose_device(name)
    with pytest.raises(ConfigError, match=r"training\.device must be auto, cpu, cuda or cuda:N, found"):
        parse_config(f"training: {{device: '{name}'}}", ExperimentConfig, "x")


@pytest.mark.parametrize(
    ("name", "num_gpus", "device"),
    [("cpu", 2, "cpu"), ("auto", 2, "cuda"), ("cuda", 1, "cuda"), ("cuda:1", 2, "cuda:1"), ("auto", 0, "cpu")],
)
def test_the_device_is_the_one_asked_for_or_what_there_is(monkeypatch, name, num_gpus, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    assert choose_device(name) == torch.device(device)


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError) as error:
        choose_device("cuda:1")
    assert str(error.value) == (
        f"device cuda:1: PyTorch {torch.__version__} finds no GPU; install a build of PyTorch with CUDA and a driver "
        "(docs/gpu.md), or give cpu"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="device cuda:2: there are 2 GPUs here, and they are numbered from 0"):
        choose_device("cuda:2")


def test_an_installation_without_pytorch_is_told_what_it_needs(monkeypatch):
    monkeypatch.setattr("asrkit.extras.find_spec", lambda module: None)
    with pytest.raises(MissingPackageError, match=r"needs torch, which is not installed; install with: "):
        choose_device("cuda")


def test_each_process_of_torchrun_takes_its_own_gpu(monkeypatch):
    job, taken = ranks._Job.__new__(ranks._Job), []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    job.take_gpu(torch.device("cuda"))
    assert taken == [1]
    with pytest.raises(ConfigError, match="device cuda:0: torchrun gives each process a GPU of its own; give cuda"):
        job.take_gpu(torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"device cuda: process 2 on .* has no GPU, for there are 1; give torchrun"):
        job.take_gpu(torch.device("cuda"))
    assert taken == [1]
