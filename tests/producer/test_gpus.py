"""Which devices get a worker."""

import pytest

from producer.errors import NoSuchGpu
from producer.gpus import Gpu, choose_gpus, named_gpus, read_list, visible_gpus
from producer.slots import plan_slots

LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA H200 (UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
"""


def numbers(gpus: list[Gpu]) -> list[str]:
    return [gpu.number for gpu in gpus]


def test_a_divided_card_is_several_devices() -> None:
    gpus = read_list(LISTED)
    assert numbers(gpus) == ["0.0", "0.1", "1"]
    assert gpus[2] == ("1", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "NVIDIA H200")
    assert gpus[0].label == "0.0 (NVIDIA A100-SXM4-40GB, 1g.5gb)"


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("0,2", ["0", "2"]),
        ("GPU-8932f937, MIG-c6d4f1ef", ["GPU-8932f937", "MIG-c6d4f1ef"]),
        ("1,-1,2", ["1"]),
        ("-1", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(value: str, keys: list[str]) -> None:
    assert [gpu.key for gpu in visible_gpus({"CUDA_VISIBLE_DEVICES": value})] == keys


def test_gpus_are_chosen_by_number_or_uuid() -> None:
    assert numbers(choose_gpus(read_list(LISTED), ["1", "MIG-c6d4"])) == ["1", "0.0"]


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(NoSuchGpu, match="no GPU 7 for workers here; there are: 0, 2"):
        choose_gpus(named_gpus("0,2"), ["7"])


def test_each_gpu_has_a_slot_that_sees_it_alone() -> None:
    first, second = plan_slots("auto", {"CUDA_VISIBLE_DEVICES": "0,GPU-8932f937"})
    assert (first.name, first.environ) == ("gpu0", {"CUDA_VISIBLE_DEVICES": "0"})
    assert (second.name, second.environ) == ("gpu1", {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"})


def test_a_device_by_number_is_the_only_one_its_worker_sees() -> None:
    (slot,) = plan_slots("cuda:1", {"CUDA_VISIBLE_DEVICES": "4,5"})
    assert slot.environ == {"CUDA_VISIBLE_DEVICES": "5", "PROMPTMILL_DEVICE": "cuda"}


def test_workers_on_the_cpu_share_its_cores() -> None:
    slots = plan_slots("cpu", {"CUDA_VISIBLE_DEVICES": "0"}, workers=2)
    assert [slot.name for slot in slots] == ["cpu0", "cpu1"]
    assert all(set(slot.environ) == {"OMP_NUM_THREADS"} for slot in slots)


def test_a_number_of_workers_is_refused_where_each_gpu_has_one() -> None:
    with pytest.raises(NoSuchGpu, match="PROMPTMILL_DEVICE=cpu"):
        plan_slots("auto", {"CUDA_VISIBLE_DEVICES": "0"}, workers=2)
