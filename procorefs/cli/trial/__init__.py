"""The commands to try ProcoreFS without an account: `sandbox` and `demo`."""
