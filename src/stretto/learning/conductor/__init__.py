"""Training of the Conductor: format, filtered fine-tuning, GRPO, export."""
