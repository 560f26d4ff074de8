"""Films: reading and writing, temporal smoothing, and resumable coloring."""
