"""Hides observed pixels, restores them, and decides on the result what a run uses, and how wide error bars are.

Read `setup` and `judge` first (the whole story), then `windows`, `shapes` and `placing` (what is hidden where), `site`,
`trial` and `scores` (what is measured), `weights`, `fills`, `references`, `drafts`, `changes` and `network` (what is
decided), `guides` and `relations` (how references map to the image), `errorbars`, `expected`, `rings`, `rim` and
`verdict`. The folder evaluation scores the outcome.
"""
