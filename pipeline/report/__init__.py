"""The report: one self-contained HTML page.

Read `build` first (what stands on the page), then `panels` (its pictures).
"""
