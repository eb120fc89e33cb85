"""Files in the safetensors format: tensors by name, and text as metadata.

The format is 8 bytes with the length of a header, the header in JSON, and the tensors' bytes
(https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from utils.system.atomic_write import write_atomically
from utils.system.errors import UserError

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], remedy: str
) -> None:
    """Write dense CPU `tensors` and `metadata` to `path` atomically.

    Raises `UserError` for a dtype that the format does not know, and where the disk refuses.
    """
    unknown = [f"{name} ({t.dtype})" for name, t in tensors.items() if t.dtype not in _DTYPES]
    if unknown:
        raise UserError(f"{path.name}: safetensors files cannot contain {', '.join(unknown)}")
    # Large elements first, so that each tensor is aligned to the size of its elements.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        begin, end = end, end + tensors[name].nbytes
        header[name] = {
            "dtype": _DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def write(file: BinaryIO) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy())

    write_atomically(path, write, remedy)
