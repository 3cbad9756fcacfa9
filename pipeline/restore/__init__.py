"""The arithmetic of one window: fill, then references, then the network, then a calibrated error.

Read `task` first (what goes in and comes out), then `estimate` (the steps), `blend` and `network`; `recipe` holds what
the self-test decided and `codes` what the source layer says.
"""
