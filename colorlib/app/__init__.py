"""The page: the studio, the game "real or fake", and the widgets that both use."""
