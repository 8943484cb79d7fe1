"""Choosing where tensors live. The only module that asks torch which accelerators exist."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
import torch

from merging.core.errors import DeviceError
from merging.core.streaming import threads
from merging.core.text import counted


@dataclass(frozen=True)
class DeviceInfo:
    """What a device is called and how much memory it has, in bytes."""

    name: str
    title: str
    memory: int


def resolve(name: str = "auto") -> torch.device:
    """The torch device for ``auto | cpu | cuda | cuda:N | mps``.

    ``auto`` takes the first CUDA device, else Apple's GPU, else the CPU.

    Raises:
        DeviceError: the name is unknown, or there is no such device on this machine.
    """
    kind, _, index = name.partition(":")
    if name == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    elif kind not in ("cpu", "cuda", "mps") or (index and (kind != "cuda" or not index.isdigit())):
        raise DeviceError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda":
        number = int(index or 0)
        if number >= torch.cuda.device_count():
            raise DeviceError(
                f"device {name!r} was asked for, but this machine shows {torch.cuda.device_count()} CUDA devices; "
                "use --device auto or cpu"
            )
        return torch.device("cuda", number)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' was asked for, but torch finds no Apple GPU; use --device auto or cpu")
    return torch.device(kind)


@contextmanager
def full_precision() -> Iterator[None]:
    """Convolutions of float32 on a GPU as exact as all else there: not with the 10 bits of TF32, torch's default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def describe(device: torch.device) -> DeviceInfo:
    """Name, human-readable title and total memory of a device."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return DeviceInfo(str(device), properties.name, properties.total_memory)
    title = "Apple GPU" if device.type == "mps" else f"CPU, {counted(threads(), 'thread')}"
    return DeviceInfo(str(device), title, psutil.virtual_memory().total)


def free_memory(device: torch.device) -> int:
    """Bytes that nobody uses on a device, whatever program; of the CPU those that programs can have without swapping.

    What torch's allocator keeps for later in this process counts as free.
    """
    if device.type == "cuda":
        torch.cuda.init()
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return int(psutil.virtual_memory().available)


def available() -> list[str]:
    """Names that :func:`resolve` accepts on this machine, ``auto`` first."""
    names = ["auto", "cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return [*names, "mps"] if torch.backends.mps.is_available() else names


def release() -> None:
    """Give back memory that Python, the C library and torch keep for later, to the system and for whoever is next."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
