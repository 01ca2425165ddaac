"""What exists: names and their rules, nodes, the persistent tree, and how it follows Procore."""
