"""The API's operations, a module a resource; `ENDPOINTS` of each is what it answers."""
