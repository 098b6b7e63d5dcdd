"""`./dev chaos`: real vLLM behind Chariot keeps answering, with the same tokens, while things are killed and cut."""
