"""The report: one self-contained HTML page.

Read `build` first (what stands on the page), then `gallery` (which pictures there are), `planes` and `places` (what of the
image they show), `panels` and `drawing` (how they are drawn).
"""
