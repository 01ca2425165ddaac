"""When and how a change reaches Procore."""
