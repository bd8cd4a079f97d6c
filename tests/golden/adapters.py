"""What PEFT makes of every option of LoRA that it writes. Needs torch, transformers and peft (0.21).

    python tests/golden/adapters.py                 makes tests/golden/adapters.json
    python tests/golden/adapters.py FOLDER          makes adapters for tests/it/lora.rs to open, below FOLDER

adapters.json: `defaults`, the adapter_config.json of a LoRA without options, and `cases`: a model's family, options, and rank and scale of
each layer that then has an adapter. FOLDER/accepted.json: {name: logits} of the adapter FOLDER/name on the ids 0 to 23 in two rows;
FOLDER/refused.json: {name: option} that FOLDER/name must be refused for; FOLDER/keys.json: the keys that this PEFT writes.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.config import ArrowConfig, BdLoraConfig, CordaConfig, KasaConfig, LoraGAConfig, MontecloraConfig, VeloraConfig
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
TWO = ["c_attn", "c_proj"]
ACCEPTED = {
    "plain": ("gpt2", dict(target_modules=["c_attn"])),
    "rank-stabilized": ("gpt2", dict(target_modules=TWO, use_rslora=True)),
    "patterns": (
        "gpt2",
        dict(target_modules=TWO, rank_pattern={"attn.c_proj": 2, r"transformer\.h\.1\..*c_attn": 5}, alpha_pattern={"c_attn": 9, r".*\.1\..*": 3}),
    ),
    "patterns-of-parts": ("gpt2", dict(target_modules=TWO, rank_pattern={"proj": 2, "^transformer.h.0.mlp.c_proj": 6})),
    "patterns-rank-stabilized": ("gpt2", dict(target_modules=TWO, use_rslora=True, rank_pattern={"c_attn": 7}, alpha_pattern={"mlp.c_proj": 2})),
    "one-layer": ("gpt2", dict(target_modules=TWO, layers_to_transform=1)),
    "some-layers": ("llama", dict(target_modules=["q_proj", "down_proj"], layers_to_transform=[0])),
    "no-layers-named": ("gpt2", dict(target_modules=TWO, layers_to_transform=[])),
    "layers-pattern": ("gpt2", dict(target_modules=TWO, layers_to_transform=[1], layers_pattern="h")),
    "layers-patterns": ("llama", dict(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern=["h", "layers"])),
    "whole-name": ("gpt2", dict(target_modules=["transformer.h.0.attn.c_attn", "mlp.c_proj"], layers_to_transform=[1])),
    "excluded": ("gpt2", dict(target_modules=TWO, exclude_modules=["mlp.c_proj"])),
    "excluded-by-pattern": ("gpt2", dict(target_modules=TWO, exclude_modules=r".*\.0\..*")),
    "pattern": ("gpt2", dict(target_modules=r".*attn\.c_.*")),
    "pattern-of-alternatives": ("llama", dict(target_modules=r"model\.layers\.(0\.self_attn\.[qk]|1\.mlp\.up)_proj")),
    "all-linear": ("llama", dict(target_modules="all-linear")),
    "names-of-others-too": ("gpt2", dict(target_modules=["c_attn", "q_proj", "query_key_value"])),
    "training-only": ("gpt2", dict(target_modules=["c_attn"], lora_dropout=0.4, fan_in_fan_out=True, megatron_core="other.core", qalora_group_size=4)),
    "wrong-way-round": ("llama", dict(target_modules=["q_proj"], fan_in_fan_out=True)),
    "gaussian": ("gpt2", dict(target_modules=["c_attn"], init_lora_weights="gaussian")),
    "random": ("gpt2", dict(target_modules=["c_attn"], init_lora_weights=False)),
    "orthogonal": ("gpt2", dict(target_modules=["c_attn"], init_lora_weights="orthogonal")),
    "mica": ("gpt2", dict(target_modules=["c_attn"], init_lora_weights="mica")),
    "eva": ("gpt2", dict(target_modules=["c_attn"], init_lora_weights="eva", rank_pattern={"transformer.h.0.attn.c_attn": 2})),
    "no-task": ("gpt2", dict(target_modules=["c_attn"], task_type=None)),
}
REFUSED = {
    "use_dora": dict(use_dora=True),
    "bias": dict(bias="lora_only"),
    "lora_bias": dict(lora_bias=True),
    "modules_to_save": dict(modules_to_save=["lm_head"]),
    "trainable_token_indices": dict(trainable_token_indices=[3]),
    "target_parameters": dict(target_parameters=["c_fc.weight"]),
    "layer_replication": dict(layer_replication=[(0, 2), (1, 2)]),
    "kasa_config": dict(kasa_config=KasaConfig()),
    "use_bdlora": dict(use_bdlora=BdLoraConfig(target_modules_bd_a=["c_attn"], nblocks=2)),
    "monteclora_config": dict(monteclora_config=MontecloraConfig()),
    "velora_config": dict(velora_config=VeloraConfig()),
    "alora_invocation_tokens": dict(alora_invocation_tokens=[1, 2]),
    "arrow_config": dict(arrow_config=ArrowConfig()),
    "use_qalora": dict(use_qalora=True),
    "megatron_config": dict(megatron_config={"hidden_size": 16}),
    "task_type": dict(task_type="SEQ_CLS"),
    "target_modules": dict(target_modules=["c_attn", "lm_head"]),
    "init_lora_weights": dict(init_lora_weights="pissa"),
    "init_lora_weights pissa_niter_4": dict(init_lora_weights="pissa_niter_4"),
    "init_lora_weights olora": dict(init_lora_weights="olora"),
    "init_lora_weights corda": dict(init_lora_weights="corda", corda_config=CordaConfig()),
    "init_lora_weights loftq": dict(init_lora_weights="loftq", loftq_config={"loftq_bits": 4, "loftq_iter": 1}),
    "init_lora_weights lora_ga": dict(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig()),
}


def adapted(base, options):
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(HERE / base, dtype=torch.float32)
    return get_peft_model(base, LoraConfig(**{"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM", **options}))


def layers(model):
    found = {}
    for name, module in model.base_model.model.named_modules():
        if isinstance(module, LoraLayer):
            found[name] = [module.r["default"], module.scaling["default"]]
    return found


def golden():
    cases = []
    for name, (base, options) in ACCEPTED.items():
        cases.append({"name": name, "base": base, "options": options, "layers": layers(adapted(base, options))})
    return {"defaults": defaults(), "cases": cases}


def defaults():
    config = LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", target_modules=["c_attn"], base_model_name_or_path="base")
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}


def make(folder):
    ids = torch.arange(24).view(2, 12)
    logits = {}
    for name, (base, options) in ACCEPTED.items():
        model = adapted(base, options)
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(folder / name)
        # Not of the model in memory: PEFT sorts patterns when it saves, and the first that matches counts.
        base = AutoModelForCausalLM.from_pretrained(HERE / base, dtype=torch.float32)
        with torch.no_grad():
            logits[name] = PeftModel.from_pretrained(base, folder / name).eval()(ids).logits.float().tolist()
    (folder / "accepted.json").write_text(json.dumps(logits))
    for name, options in REFUSED.items():
        options = {"target_modules": ["c_attn"], "r": 4, "task_type": "CAUSAL_LM", **options}
        initialisation = options.pop("init_lora_weights", True)  # LoftQ asks for a package where it is constructed
        config = LoraConfig(base_model_name_or_path=str(HERE / "gpt2"), **options)
        config.init_lora_weights = initialisation
        (folder / name).mkdir()
        config.save_pretrained(folder / name)
    (folder / "refused.json").write_text(json.dumps({name: name.split()[0] for name in REFUSED}))
    (folder / "keys.json").write_text(json.dumps(sorted(defaults())))


if len(sys.argv) > 1:
    make(Path(sys.argv[1]))
else:
    made = golden()
    cases = ",\n".join(json.dumps(case) for case in made["cases"])
    (HERE / "adapters.json").write_text(f'{{"defaults": {json.dumps(made["defaults"])},\n"cases": [\n{cases}\n]}}\n')
