"""The call budget: who may send the next call to Procore, and when."""
