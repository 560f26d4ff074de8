"""Photographs for training: Tiny ImageNet, folders and lists of URLs."""
