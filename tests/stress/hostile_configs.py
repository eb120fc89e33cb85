"""Hostile files of flags and logs, and the command lines that name them, as `hostile_cases`."""

import os
from pathlib import Path

CONFIG = """
--config nowhere.json | --config nowhere.json; No such file
--config file | --config file; .yaml
--config configs/pipe.json | --config configs/pipe.json; not a regular file
--config configs/zero.json | --config configs/zero.json; not a regular file
--config configs/folder.json | --config configs/folder.json
--config {long}.json | File name too long
--config configs/text.json | line 1: not JSON
--config configs/latin.json | UTF-8
--config configs/deep.json | nested too deeply
--config configs/number.json | neither flags
--config configs/unknown.json | unknown flag learning_rat; learning_rate
--config configs/range.json | --lr
--config configs/choice.json | --precision; bf16
--config configs/switch.json | nesterov: must be true or false
--config configs/value.json | compile: takes a value
--config configs/list.json | lr: takes one value
--config configs/nested.json | lr: takes a value
--config configs/twice.json | lr is given twice
--config configs/names.json | learning-rate is given twice
--config configs/code.json | --import
--config configs/itself.json | unknown flag config
--config configs/old.json | earlier version
"""

COMPARE = """
nowhere.txt | LOG nowhere.txt; no such file
folder | LOG folder
pipe | LOG pipe
link | LOG link
file | LOG file; not a log; name
configs/text.jsonl | configs/text.jsonl is not a JSON log
configs/deep.jsonl | configs/deep.jsonl is not a JSON log
{long} | {long}
out/digits/tiny.lif.txt | of the same run
--label a b | --label; 2 for 1 LOG
--out out/digits/tiny.lif.txt | --out out/digits/tiny.lif.txt
--out nowhere/x.png | --out nowhere/x.png
--out configs/folder.png | --out configs/folder.png
"""

FILES = {
    "text": "a file\n",
    "deep": "[" * 100_000,
    "number": "1",
    "unknown": '{"learning_rat": 1}',
    "range": '{"lr": -1}',
    "choice": '{"precision": "fp16"}',
    "switch": '{"nesterov": 1}',
    "value": '{"compile": false}',
    "list": '{"lr": [1, 2]}',
    "nested": '{"lr": {"lr": 1}}',
    "twice": '{"lr": 1, "lr": 2}',
    "names": '{"lr": 1, "learning-rate": 2}',
    "code": '{"import": ["file"]}',
    "itself": '{"config": "configs/range.json"}',
    "old": '[{"versions": {}}]',
}


def write(folder: Path) -> None:
    """Write the files of flags, and logs that are none, into a new `folder`."""
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.json").write_text(text)
    for name in ("text", "deep"):
        (folder / f"{name}.jsonl").write_text(FILES[name])
    (folder / "latin.json").write_bytes(b"{\xff")
    (folder / "folder.json").mkdir()
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.json")
    (folder / "zero.json").symlink_to("/dev/zero")
