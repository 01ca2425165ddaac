"""What must still reach Procore: a durable journal of changes, and the workers that carry it out."""
