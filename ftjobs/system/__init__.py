"""What the process runs on: signals, progress display, devices, errors of the hub."""
