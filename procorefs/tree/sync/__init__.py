"""How the tree follows Procore: full listings, polls, and totals that tell whether something is missing."""
