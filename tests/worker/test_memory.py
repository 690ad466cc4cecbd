"""What can be said of memory without a card."""

import pytest
import torch

from worker.memory import DeviceMemory, cap_memory, gib, naming_out_of_memory, release_memory

CPU = torch.device("cpu")


def test_on_the_cpu_nothing_is_measured() -> None:
    memory = DeviceMemory(CPU, cap=2**30)
    memory.forget_peak()
    memory.synchronize()
    assert (memory.limit, memory.share(), memory.used(), memory.peak(), memory.capped) == (None, None, 0, 0, False)


def test_a_cap_is_ignored_with_a_sentence_on_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    cap_memory(CPU, None)
    assert not caplog.text
    cap_memory(CPU, 2**30)
    assert "vram is ignored on cpu" in caplog.text


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory",
        "DefaultCPUAllocator: can't allocate memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_out_of_memory_has_one_name(message: str) -> None:
    with pytest.raises(torch.OutOfMemoryError, match=message), naming_out_of_memory():
        raise RuntimeError(message)


def test_other_errors_keep_their_names() -> None:
    with pytest.raises(RuntimeError, match="shapes") as caught, naming_out_of_memory():
        raise RuntimeError("shapes do not fit")
    assert caught.type is RuntimeError


def test_no_error_of_a_failed_call_holds_its_tensors() -> None:
    try:
        with naming_out_of_memory():
            raise RuntimeError("out of memory")
    except torch.OutOfMemoryError as error:
        cause = error.__cause__
        release_memory(error)
    assert cause
    assert cause.__traceback__ is None


def test_bytes_are_told_as_people_read_them() -> None:
    assert gib(6 * 2**30) == "6.0 GiB"
