"""What the embedded Procore holds: companies, users, documents, versions."""
