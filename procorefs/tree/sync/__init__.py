"""How the tree follows Procore: listings, polls, and the proof that nothing is missing."""
