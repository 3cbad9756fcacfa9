"""The quality table: restored test holes in real images against every classical fill, with bootstrap intervals."""
