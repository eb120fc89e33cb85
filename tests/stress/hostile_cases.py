"""Hostile command lines, a line each: the flags, and after `|` what the one line of error names.

Flags are split as a shell would and may hold escapes such as `\\x1b`; those that every call of a
program needs are in `BASE`, which they override. Files are those of `hostile_files`. `{long}` is a
name that no file system takes, `{digits}` a number of 23 digits.
"""

from tests.stress.hostile_configs import COMPARE, CONFIG
from tests.stress.hostile_event_cases import EVENTS, SAMPLE_DATA, SHOW_EVENTS
from tests.stress.hostile_files import CHECKPOINTS

BASE = {
    "single": "--dataset digits --path folder --model tiny.lif --timesteps 2 --delta_t 0.5 "
    "--Vth 0.6 --train-batch 512 --test-batch 200 --warmup 4 --compile off --epochs 1 "
    "--manualSeed 1 -j 0 -c out",
    "imagenet": "--arch preresnet_ann.tiny --data images/good --image-size 32 -b 2 --epochs 1 "
    "--warmup 0 --timesteps 2 --compile off --seed 5 -j 0 -c out",
    "show_events": "",
    "sample_data": "",
}
BASE["multi"] = BASE["single"]
BASE["compare"] = "out/digits/tiny.lif.txt"

# Both training programs of CIFAR read these, the ones of several processes alone further below.
NUMBERS = """
--epochs 0 | --epochs
--epochs -1 | --epochs
--epochs 1.5 | --epochs
--epochs '' | --epochs
--epochs {digits} | --epochs
--start-epoch -1 | --start-epoch
--start-epoch {digits} | --start-epoch
--lr 0 | --lr
--lr -0.1 | --lr
--lr nan | --lr
--lr 1e400 | --lr
--lr 1e308 | --lr
--lr 0,1 | --lr
--momentum 1 | --momentum
--momentum nan | --momentum
--weight-decay -1 | --weight-decay
--weight-decay inf | --weight-decay
--weight-decay 1e308 | --weight-decay
--warmup -1 | --warmup
--warmup {digits} | --warmup
--train-batch 0 | --train-batch
--train-batch {digits} | --train-batch
--test-batch -5 | --test-batch
--test-batch {digits} | --test-batch
--timesteps 0 | --timesteps
--timesteps -3 | --timesteps
--timesteps {digits} | --timesteps
--Vth 0 | --Vth
--Vth nan | --Vth
--Vth 1e308 | --Vth
--Vth_bound -1 | --Vth_bound
--Vth_bound nan | --Vth_bound
--tau 0 | --tau
--tau inf | --tau
--delta_t nan | --delta_t
--delta_t -1 | --delta_t
--alpha nan | --alpha
--alpha -1 | --alpha
--dropout 1 | --dropout
--dropout nan | --dropout
--train_Vth 2 | --train_Vth
--accumulate 0 | --accumulate
--val_split 1 | --val_split
--ema 1 | --ema
--ema -0.1 | --ema
--ema nan | --ema
--label_smoothing 1 | --label_smoothing
--label_smoothing nan | --label_smoothing
--optimizer AdamX | --optimizer; AdamW
--name _ema | --name; another run
--val_split -0.1 | --val_split
--val_split nan | --val_split
--val_split 1e-9 | --val_split; none is for validation
--accumulate {digits} | --accumulate
--save_every -1 | --save_every
--save_every {digits} | --save_every
--manualSeed -1 | --manualSeed
--manualSeed {digits} | --manualSeed
-j -1 | --workers
-j {digits} | --workers
--mean 1 2 | --mean
--mean nan 0 0 | --mean
--std 0 1 1 | --std
--std 1 1 | --std
"""

WORDS = """
--dataset cifar | --dataset cifar; cifar10
--dataset '' | --dataset
--dataset ../digits | --dataset ../digits
--dataset '\\x1b[31mred' | --dataset
--dataset {long} | {long}
--model tiny.lift | --model; tiny.lif
--model '' | --model
--model '\\x1b]0;title\\x07' | --model
--engine fastest | --engine; folded
--precision fp16 | --precision
--compile maybe | --compile
--on_nan ignore | --on_nan
--optimizer '' | --optimizer; SGD
--no-such-flag | --no-such-flag
'stray argument' | stray argument
--name a/b | --name
--name /etc/passwd | --name
--name {long} | File name too long
-c file | file
-c link/deeper | link
-c pipe | pipe
-c /dev/null | /dev/null
-c {long} | File name too long
--nesterov --momentum 0 | --nesterov
--tensorboard file | file; --tensorboard
--tensorboard {long} | File name too long
--import nowhere.py | --import; nowhere.py
--import file | --import
--import images | --import
--import pipe | --import; pipe
"""

SINGLE = """
--path digits/empty | digits.npz
--path digits/text | digits.npz
--path digits/truncated | digits.npz
--path digits/no-labels | digits.npz
--path digits/no-images | digits.npz
--path digits/other-counts | digits.npz
--path digits/flat | digits.npz
--path digits/floats | digits.npz
--path digits/white | digits.npz
--path digits/eleventh | digits.npz
--path digits/negative | digits.npz
--path digits/words | digits.npz
--path digits/bomb | digits.npz; too large
--path digits/objects | digits.npz
--path digits/huge-shape | digits.npz
--path digits/not-arrays | digits.npz
--path digits/code | digits.npz
--dataset folder --path images/empty | images/empty; 0.png
--dataset folder --path images/text | images/text; 0.png
--dataset folder --path images/truncated | images/truncated; 0.png
--dataset folder --path images/huge | images/huge; 0.png
--dataset folder --path images/eps | images/eps; 0.png; PNG
--dataset folder --path images/pdf | images/pdf; 0.png; PNG
--dataset folder --path images/zip | images/zip; 0.png; PNG
--dataset folder --path images/cut-jpeg | images/cut-jpeg; 0.png
--dataset folder --path images/pipe | images/pipe; 0.png; not a regular file
--dataset folder --path images/zero | images/zero; 0.png; not a regular file
--dataset folder --path images/dangling | images/dangling
--dataset folder --path images/folder | images/folder
--dataset folder --path images/untested | images/untested; test or val
--dataset folder --path images/missing | images/missing; class b
--dataset folder --path images/escape | images/escape; two\\n\\x1b[2Jlines
--dataset folder --path images/many | images/many; more
--dataset folder --path images/flat | images/flat
--dataset folder --path images/nowhere | images/nowhere; train
--dataset folder --path file | file; train
--dataset folder --path pipe | pipe; train
--dataset folder --path link | link; train
--dataset folder --path {long} | {long}
--dataset cifar10 --path cifar/empty | cifar/empty
--dataset cifar10 --path cifar/text | cifar/text
--dataset cifar10 --path cifar/truncated | cifar/truncated
--dataset cifar10 --path cifar/malicious | cifar/malicious
--dataset cifar10 --path cifar/archive | cifar/archive
--dataset cifar10 --path cifar/cut-archive | cifar/cut-archive
--dataset cifar10 --path file | file
--dataset cifar100 --path cifar/text | cifar/text
--dataset CIFAR10DVS | --model; channels
"""

RESUME = """
--resume nowhere.pth | --resume; nowhere.pth
--resume '' -e --resume nowhere.pth | --resume; nowhere.pth
--resume folder.pth | --resume; folder.pth
--resume pipe.pth | --resume; pipe.pth
--resume zero.pth | --resume; zero.pth
--resume link.pth | --resume; link.pth
--resume {long} | {long}
--resume '\\x1b[2J' | --resume
--resume auto -e --name _other | --resume auto
--resume tiny.lif.pth --model tiny.if | --model tiny.lif
--resume tiny.lif.pth --optimizer Adam --epochs 2 | --optimizer
"""

MULTI = """
--timeout 0 | --timeout
--timeout -1 | --timeout
--timeout nan | --timeout
--timeout inf | --timeout
--timeout 1e308 | --timeout
--grad_compression int8 | --grad_compression
--local_rank 3 | --local_rank
--local_rank one | --local_rank
WORLD_SIZE=two RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 -- | WORLD_SIZE
WORLD_SIZE=0 RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 -- | WORLD_SIZE
WORLD_SIZE=-1 RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 -- | WORLD_SIZE
WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 -- | RANK
WORLD_SIZE=2 RANK=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 -- | RANK
WORLD_SIZE=2 RANK=-1 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 -- | RANK
WORLD_SIZE=2 RANK=1 LOCAL_RANK=one MASTER_ADDR=127.0.0.1 MASTER_PORT=1 -- | LOCAL_RANK
WORLD_SIZE=2 RANK=1 MASTER_PORT=1 -- | MASTER_ADDR
WORLD_SIZE=2 RANK=1 MASTER_ADDR=127.0.0.1 -- | MASTER_PORT
WORLD_SIZE=2 RANK=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=port -- | MASTER_PORT
WORLD_SIZE=2 RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=99999 -- | MASTER_PORT
WORLD_SIZE=2 RANK=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 -- --timeout 0.2 | rank 1 of 2
WORLD_SIZE=2 RANK=1 MASTER_ADDR='no host' MASTER_PORT=1 -- --timeout 0.2 | no host
WORLD_SIZE=2 RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT={port} -- --timeout 0.2 | rank 1 of 2
WORLD_SIZE=2 RANK=0 MASTER_ADDR=203.0.113.1 MASTER_PORT=1 -- --timeout 0.2 | 203.0.113.1
"""

IMAGENET = """
--arch preresnet_ann.tinny | --arch; preresnet_ann.tiny
--arch '\\x1b[31m' | --arch
--arch preresnet.resnet18_if | --arch
--image-size 0 | --image-size
--image-size {digits} | --image-size
--min_crop 1 | --min_crop
--min_crop -0.1 | --min_crop
--min_crop nan | --min_crop
-b 0 | --batch-size
-b 1 | --batch-size
-b {digits} | --batch-size
-p 0 | --print-freq
-j -1 | --workers
-j {digits} | --workers
--seed -1 | --seed
--seed {digits} | --seed
--lr inf | --lr
--timesteps 0 --arch preresnet_snn.tiny_if | --timesteps
--calib_batches 0 | --calib_batches
--calib_split test | --calib_split
--gpu 7 | --gpu 7
--gpu -1 | --gpu
--nproc 2 | --nproc 2
--nproc 0 | --nproc
--world-size 0 --rank 0 | --world-size 0
--world-size 2 | --world-size 2
--world-size 2 --rank 2 | --rank 2
--world-size {digits} --rank 0 | --world-size: must be at most
--world-size 1048577 --rank 0 | --world-size: must be at most
--world-size 1048576 --rank 1048577 | --rank: must be at most
--world-size 2 --rank {digits} | --rank: must be at most
--rank 1 | --rank 1
--world-size 2 --rank 0 | --dist-url
--world-size 2 --rank 0 --dist-url '' | --dist-url
--world-size 2 --rank 0 --dist-url udp://127.0.0.1:1 | --dist-url udp
--world-size 2 --rank 0 --dist-url tcp://127.0.0.1 | --dist-url tcp
--world-size 2 --rank 0 --dist-url tcp://127.0.0.1:99999 | --dist-url tcp
--world-size 2 --rank 0 --dist-url tcp://[::1 | --dist-url tcp
--world-size 2 --rank 0 --dist-url file:///etc/passwd | --dist-url file
--world-size 2 --rank 0 --dist-url env:// | MASTER_ADDR
--world-size 2 --rank 1 --dist-url tcp://127.0.0.1:1 --timeout 0.2 | rank 1 of 2
WORLD_SIZE=two RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 -- | WORLD_SIZE
WORLD_SIZE=2 RANK=0 LOCAL_WORLD_SIZE=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=1 -- | LOCAL_WORLD_SIZE
--data nowhere | --data nowhere
--data file | --data file
--data pipe | --data pipe
--data link | --data link
-e --data images/empty | images/empty; 0.png
-e --data images/text | images/text; 0.png
-e --data images/truncated | images/truncated; 0.png
-e --data images/huge | images/huge; 0.png
-e --data images/eps | images/eps; 0.png
-e --data images/pipe | images/pipe; 0.png; not a regular file
-e --data images/zero | images/zero; 0.png; not a regular file
-e --data images/dangling | images/dangling
--data images/untested | images/untested; val
--data images/missing | images/missing; class b
--data images/escape | images/escape; two\\n\\x1b[2Jlines
--data images/many | images/many; more
--pre_train nowhere.pth | --pre_train; nowhere.pth
--pre_train folder | --pre_train
--pre_train ../../pipe | --pre_train
--pre_train text.pth | --pre_train; text.pth
--pre_train malicious.pth | --pre_train; malicious.pth
--pre_train truncated.pth | --pre_train; truncated.pth
--pre_train shape.pth | --pre_train; shape.pth
--pre_train escape.pth | --pre_train; escape.pth
--pre_train thousand.pth | --pre_train; thousand.pth; more
--load_Vth Vth.dict | --load_Vth
--arch preresnet_snn.tiny_if --load_Vth nowhere.dict | --load_Vth; nowhere.dict
--arch preresnet_snn.tiny_if --load_Vth text.pth | --load_Vth; text.pth
--arch preresnet_snn.tiny_if --load_Vth malicious.pth | --load_Vth; malicious.pth
--arch preresnet_snn.tiny_if --load_Vth list.pth | --load_Vth; list.pth
--arch preresnet_snn.tiny_if --load_Vth nan.dict | --load_Vth; nan.dict
--arch preresnet_snn.tiny_if --load_Vth negative.dict | --load_Vth; negative.dict
--arch preresnet_snn.tiny_if --load_Vth text.dict | --load_Vth; text.dict
--arch preresnet_snn.tiny_if --load_Vth more.dict | --load_Vth; more.dict
--arch preresnet_cal_Vth.tiny | --calculate_Vth
--arch preresnet_cal_Vth.tiny --calculate_Vth new | --pre_train
--arch preresnet_cal_Vth.tiny --calculate_Vth a/b --pre_train good.pth | --calculate_Vth
--arch preresnet_cal_Vth.tiny --calculate_Vth new --pre_train text.pth | --pre_train
--arch preresnet_cal_Vth.tiny --calculate_Vth new --pre_train good.pth \
--data images/empty | images/empty; 0.png
--arch preresnet_cal_Vth.tiny --calculate_Vth {long} --pre_train good.pth | File name too long
--arch preresnet_snn.tiny_if --calculate_Vth new | --calculate_Vth
--name a/b | --name
"""

TABLES = {
    "single": NUMBERS + WORDS + CONFIG + SINGLE + EVENTS + RESUME,
    "multi": MULTI,
    "imagenet": IMAGENET,
    "show_events": SHOW_EVENTS,
    "sample_data": SAMPLE_DATA,
    "compare": COMPARE,
}


HARMLESS = {  # strange, but there is nothing wrong with it
    "single": [
        "--name '_\\u732b $_$ %s'",
        "--name '\\x1b[31mred\\n\\x07'",
        "--path link --name _link",
        "--resume tiny.lif.pth -e",
    ],
    "imagenet": ["--name '\\u202e'"],
    "show_events": ["events/good.aedat --out 'a\\nb.png'"],
    "sample_data": ["dvs --path 'new\\x1b[2J' --recordings 20 -j 0"],
}


def cases() -> list[tuple[str, str, list[str]]]:
    """Return the program, the flags and the words of the error of every case."""
    lines = [(program, line) for program, table in TABLES.items() for line in _lines(table)]
    lines += [("single", f"--resume {name}.pth | --resume; {name}.pth") for name in CHECKPOINTS]
    lines += [("imagenet", f"--resume {name}.pth | --resume; {name}.pth") for name in CHECKPOINTS]
    split = [(program, *line.rpartition("|")[::2]) for program, line in lines]
    return [(p, flags.strip(), [w.strip() for w in words.split(";")]) for p, flags, words in split]


def _lines(table: str) -> list[str]:
    return [line for line in table.splitlines() if line]
