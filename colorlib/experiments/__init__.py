"""Experiments with the report's network: the L2 search, the ablation, the report's claims."""
