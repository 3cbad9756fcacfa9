"""An attack on the program: kills, damage, hostile files; what is lost, wrong or hanging is counted."""
