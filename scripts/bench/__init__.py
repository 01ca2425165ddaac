"""The benchmark: what the project promises in figures, measured on this machine, beside `rclone mount` where named."""
