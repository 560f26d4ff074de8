"""Photographs as files: pixels with their metadata, one or many at a time."""
