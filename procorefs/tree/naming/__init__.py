"""Names: what Procore takes, what Linux can hold, and what never goes to Procore."""
