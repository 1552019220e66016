"""What a run will do on this machine: policies, order, duration, disk; nothing here runs a model."""
