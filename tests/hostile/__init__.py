"""Bad inputs by the thousand: generated from a seed, run in forked workers, each outcome held against one rule."""
