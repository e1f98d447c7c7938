"""A model folder, read with suspicion: files, configuration, weights, tokenizer, and one trial run of them together."""
