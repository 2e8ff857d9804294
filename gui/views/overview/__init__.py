"""The page that a document opens on."""
