"""What people did with their images, as they did it: one test a kind of case."""
