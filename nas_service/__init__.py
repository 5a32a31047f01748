"""A self-hosted neural architecture search service: decides what to try next, remembers everything, serves it."""

__version__ = "0.1.0"
