"""Networks and trivial models: patches in, estimates with an error out; one file per kind.

Read `base` first (what a model promises, cards of weights), then `identity` and `autoencoder`; `_choice` finds weights.
"""
