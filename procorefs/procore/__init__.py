"""The REST client of Procore: authorisation, models, pages, downloads, errors."""
