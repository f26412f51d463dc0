#!/bin/sh
# Make a virtual environment with the real vLLM 0.33.0 scheduler, which needs no GPU.
# Usage: sh experiments/vllm_adapter/setup.sh [FOLDER]   (default: .venv beside this file)
# Run it again after an interruption: finished steps are skipped. PYTHON names the interpreter
# (3.11 to 3.13). torch is large; with pip's settings pointed at an index of CPU builds, smaller.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
folder=${1:-$here/.venv}
python=$folder/bin/python

[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$folder"

has() { "$python" -m pip show -q "$1" 2>/dev/null; }

if ! has torch; then "$python" -m pip install -c "$root/constraints.txt" torch==2.13.0; fi
# What importing the scheduler asks for; einops for its model of one layer; then what sgym asks for.
"$python" -m pip install -q -r "$root/experiments/vllm_fuzz/requirements.txt" einops==0.8.2
"$python" -m pip install -q -c "$root/constraints.txt" gymnasium numba onnxruntime
# --no-deps: the rest of what vLLM requires is for running models on a GPU.
if ! has vllm; then "$python" -m pip install --no-deps vllm==0.33.0; fi

CUDA_VISIBLE_DEVICES='' VLLM_LOGGING_LEVEL=ERROR "$python" -c '
import importlib.metadata as metadata
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
print("ready:", AsyncScheduler.__module__, "of vLLM", metadata.version("vllm"))
'
