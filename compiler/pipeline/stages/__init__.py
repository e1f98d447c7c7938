"""The stages of one target's run, each from frozen inputs to frozen outputs.

`profile` prices networks, `search` evaluates them, `finalise` gives those that are kept their weights, `export` writes
their files, `measure` times these, `select` chooses one, `write` reports. `compiler.pipeline.run` calls them in turn.
"""
