#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: is CUDA as right as the CPU, and how fast is it?
#
#   scripts/gpu_check.sh W2S FOLDER...
#
# W2S is the program, FOLDER are model folders with tokenizers (paths from the repository's root or absolute). Each answers a prompt greedily
# in f32 on both devices: the texts must be equal and the mean log-probabilities within 1e-3. Then the shapes of benches/ are measured with
# random weights in bf16, and the smoke recipe is run. Prints JSON lines; fails if a model differs. The program must find a libtorch with CUDA (LD_LIBRARY_PATH).
set -euo pipefail
w2s=$1
shift
cd "$(dirname "$0")/.."
answers=$(mktemp -d)
trap 'rm -rf "$answers"' EXIT
for folder in "$@"; do
    for device in cpu cuda:0; do
        "$w2s" steer --base "$folder" --method base --temperature 0 --max-new-tokens 20 --dtype float32 --device "$device" --json \
            "The film begins in a small town" >"$answers/${device%%:*}.json"
    done
    python3 - "$folder" "$answers" <<'PYTHON'
import json, sys

cpu, cuda = (json.load(open(f"{sys.argv[2]}/{device}.json")) for device in ("cpu", "cuda"))
difference = abs(cpu["base_logprob_per_token"] - cuda["base_logprob_per_token"])
print(json.dumps({"folder": sys.argv[1], "same_text": cpu["response"] == cuda["response"], "logprob_difference": difference}))
sys.exit(cpu["response"] != cuda["response"] or difference > 1e-3)
PYTHON
done
shapes=benches/shapes
"$w2s" bench generate --base $shapes/llama-2-7b --random-weights --device cuda:0 --dtype bfloat16 --prompts 1 --prompts-in-flight 1 --json
"$w2s" bench generate --base $shapes/llama-2-7b --random-weights --device cuda:0 --dtype bfloat16 --prompts 64 --prompts-in-flight 64 --json
for base in gpt2 gpt2-xl llama-2-7b; do
    "$w2s" bench steer --base $shapes/$base --tuned $shapes/gpt2 --untuned $shapes/gpt2 --random-weights --device cuda:0 --dtype bfloat16 \
        --prompts 32 --prompts-in-flight 16 --json
done
# Every stage at its smallest, PPO among them.
"$w2s" --no-progress run recipes/smoke.toml --set run.device=cuda:0 --out "$answers/smoke" --json
# Training; benches/peers/compare_training.py sets TRL beside it on the same GPU.
for what in sft dpo; do
    "$w2s" bench $what --base $shapes/gpt2 --random-weights --device cuda:0 --dtype bfloat16 --prompt-tokens 128 --new-tokens 128 \
        --batch-size 64 --micro-batch-size 64 --steps 20 --json
done
