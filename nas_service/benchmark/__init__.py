"""How well strategies search, measured on tables of trained networks: simulated searches, statistics, a document."""
