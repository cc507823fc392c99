"""Records, datasets and settings: what everything else reads. Imports nothing of ours."""
