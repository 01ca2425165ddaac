"""The durable record of local changes, of calls under way, and of attributes that stay here."""
