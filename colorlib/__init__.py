"""Colorizing grey images through a CNN: the library behind the notebooks.

Nothing is imported here: ``import colorlib`` is instantaneous, and each module is imported
by the name of its job (``from colorlib import quantizer``).
"""
