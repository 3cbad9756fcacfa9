"""What people reported of inputs as they have them: one test a kind, its input made anew, tiny."""
