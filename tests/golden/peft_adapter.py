"""What check_adapter.py and check_reward_adapter.py share: an adapter as PEFT writes it."""

import torch
from peft import LoraConfig, get_peft_model


def written(base, task_type, folder):
    """`base` with an adapter on all its linear layers that is not the zero which it starts as, and which is saved in `folder`."""
    torch.manual_seed(1)
    model = get_peft_model(base, LoraConfig(r=3, lora_alpha=7, target_modules="all-linear", task_type=task_type))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return model
