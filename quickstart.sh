#!/usr/bin/env bash
# Trains a spiking ResNet-18 on handwritten digits, evaluates it, writes a report and a summary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/environment.sh

stem=preresnet.resnet18_lif_quickstart
network=(--dataset digits --model preresnet.resnet18_lif --name _quickstart
    --timesteps 2 --Vth 0.1 --alpha 0.5 --precision bf16)
training=(--epochs 6 --train-batch 32 --optimizer Adam --lr 0.0015 --warmup 45 --manualSeed 1)

# run ARGUMENT...: prints a command line of Python and runs it.
run() {
    local command=("$VENV/bin/python" -u "$@")
    echo "\$ ${command[*]}"
    "${command[@]}"
}

prepare_environment requirements.txt
run cifar/main_single_gpu.py "${network[@]}" "${training[@]}"
run cifar/main_single_gpu.py "${network[@]}" --evaluate --resume "${stem}_best.pth" --rate_stat 1
run -m utils.report "checkpoint/digits/${stem}_best.pth" --stop_confidence 0.9
"$VENV/bin/python" scripts/summary.py "checkpoint/digits/$stem"
