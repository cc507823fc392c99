"""Training and the registry of adapter versions."""
