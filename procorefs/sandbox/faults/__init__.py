"""What goes wrong on purpose, and the answers that Procore leaves open."""
