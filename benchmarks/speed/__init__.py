"""What a run costs, beside the floor that must hold and what other tools cost: `make bench`.

Read `rows` first (the table of what is measured), then `scenes` (what is restored), `rivals` (other tools), `page`.
"""
