"""What people have and do with it, as they reported it: one test a kind, its input made anew, tiny."""
