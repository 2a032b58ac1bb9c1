"""LoRA fine-tuning on spelling."""
