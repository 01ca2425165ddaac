"""`procorefs serve`: a status page and metrics of all mounts of this user, on loopback."""
