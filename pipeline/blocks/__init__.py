"""The unit of work: one block of the image, a pure function of the plan and its number.

Read `block` first (what happens to a block), then `composite` (estimates into the stored image), `store` and `journal`
(written, durable, committed); `events` is what a run tells while blocks go by.
"""
