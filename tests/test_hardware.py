from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest
import torch

from letterwise import hardware

CPU = torch.device("cpu")


def test_what_this_machine_is() -> None:
    assert hardware.cpu_name()
    assert 1 <= hardware.cpu_cores() <= (os.cpu_count() or 1)
    assert hardware.memory_gib() > 0.5
    assert hardware.cpu_features() == sorted(hardware.cpu_features())


def test_a_chosen_number_type_is_kept() -> None:
    assert hardware.choose_dtype(CPU, "float32") == torch.float32
    assert hardware.choose_dtype(CPU, "bfloat16") == torch.bfloat16


@pytest.mark.parametrize(
    ("features", "dtype"),
    [(["amx_tile", "avx2"], torch.bfloat16), (["avx512_bf16"], torch.bfloat16), (["avx2"], torch.float32)],
)
def test_bfloat16_is_chosen_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, features: list[str], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(hardware, "cpu_features", lambda: features)
    assert hardware.choose_dtype(CPU) == dtype


@pytest.mark.parametrize(("cuda", "mps", "device"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_is_chosen(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert hardware.choose_device().type == device


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or native)
    assert hardware.choose_dtype(torch.device("cuda")) == dtype


def test_where_something_runs_is_said_in_a_few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu_name", lambda: "NVIDIA T4")
    assert hardware.describe(torch.device("cuda"), torch.float32) == "cuda (NVIDIA T4) in float32"
    assert hardware.describe(torch.device("mps"), torch.float32) == "mps in float32"


def test_memory_is_given_back_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []

    class Library:
        def malloc_trim(self, left: int) -> None:
            trimmed.append(left)

    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda _: Library())
    hardware.give_memory_back()
    assert trimmed == [0]
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda _: object())  # as with musl or on another system
    hardware.give_memory_back()


MAPPED = """
import ctypes
from letterwise import hardware

class Allocated(ctypes.Structure):
    # glibc's struct mallinfo2: ten sizes, the fourth the number of mappings.
    _fields_ = (("before", ctypes.c_size_t * 3), ("hblks", ctypes.c_size_t), ("more", ctypes.c_size_t * 6))

library = ctypes.CDLL(None)
library.mallinfo2.restype = Allocated
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]

def mapped():
    before = library.mallinfo2().hblks
    block = library.malloc(ctypes.c_size_t(24 * 2**20))
    after = library.mallinfo2().hblks
    library.free(block)
    return after > before

with hardware.large_blocks_apart():
    print(mapped())
print(mapped())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library is not glibc 2.33 or later")
def test_a_large_block_is_a_mapping_of_its_own_while_a_model_is_loaded() -> None:
    # In a process of its own: in another's heap there may be room for the block, which then is no mapping.
    done = subprocess.run([sys.executable, "-c", MAPPED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_large_blocks_are_left_to_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda _: object())
    with hardware.large_blocks_apart():
        pass
