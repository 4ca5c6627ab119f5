"""Generative adversarial networks for genreg: pictures by class."""
