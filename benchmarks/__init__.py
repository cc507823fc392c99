"""What measures speed. Each prints JSON lines; ratios come from one run on one machine."""
