"""Films: reading and writing, temporal smoothing, and coloring that can be stopped."""
