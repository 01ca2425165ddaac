"""One change to Procore: plan its calls, make them, apply their answers."""
