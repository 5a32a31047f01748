"""Search spaces, one file a family: each a function of ``choose`` that returns an Architecture. No torch."""
