"""Base models: from a pinned source to a folder of safetensors, tokenizer and configuration."""
