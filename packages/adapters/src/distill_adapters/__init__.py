"""Load a language model under a policy, adapt it with LoRA or QLoRA, fine-tune it, merge it."""
