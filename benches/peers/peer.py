"""What the peers share: models from folders, random prompts, and the facts that belong to every figure."""

import resource
import sys

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


def add_common_arguments(parser):
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=50)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--threads", type=int, help="default: torch's own choice")
    parser.add_argument("--random-weights", action="store_true", help="folders need only a config.json")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def load(folder, dtype, random_weights, seed):
    """A causal language model ready for inference; `seed` draws its weights if they are to be random."""
    if random_weights:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=DTYPES[dtype])
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype])
    return model.eval()


def eos_ids(model):
    """The model's end-of-sequence tokens; none if it names none."""
    eos = model.generation_config.eos_token_id
    return torch.tensor([] if eos is None else eos, dtype=torch.long).reshape(-1)


def prompts(count, tokens, model, seed=1):
    """Random ids, (count, tokens), that are no end-of-sequence token; the same for every run."""
    vocabulary = torch.arange(model.config.vocab_size)
    vocabulary = vocabulary[~torch.isin(vocabulary, eos_ids(model))]
    generator = torch.Generator().manual_seed(seed)
    return vocabulary[torch.randint(len(vocabulary), (count, tokens), generator=generator)]


def facts():
    """About the process; `peak_rss_bytes` is true only at its end."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "peak_rss_bytes": peak if sys.platform == "darwin" else peak * 1024,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
