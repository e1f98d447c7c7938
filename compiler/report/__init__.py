"""What a run found, for people: the schema of `front.json` and the self-contained page built from it."""
